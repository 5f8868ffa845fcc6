// Which of the instruction sets a test runs on.
#pragma once

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
