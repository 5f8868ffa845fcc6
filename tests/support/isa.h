// Which of the instruction sets a test runs on.
#pragma once

#include <gtest/gtest.h>

#include "kernels/kernels.h"

namespace gpt::test {

/// Whether it is the best that this CPU has: all give the same bits, and what takes long is enough to see with one.
inline bool on_the_fastest_isa() {
  using kernels::Isa;
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kScalar})
    if (const auto* best = kernels::table_of(isa)) return best == &kernels::table();
  return true;
}

}  // namespace gpt::test

/// Ends a test that takes long where the CPU has a better instruction set. kernels_test compares all kernels of all of them bit for
/// bit, and what lies above is the same code for each: the quicker tests beside it show that it runs on every one.
#define GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA() \
  if (!::gpt::test::on_the_fastest_isa()) GTEST_SKIP() << "the fastest instruction set gives the same bits"
