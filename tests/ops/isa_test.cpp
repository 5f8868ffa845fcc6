// The choice of instructions that GPT_FORCE_ISA makes. tests/kernels has the free one.
#include "gpt/ops/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace gpt::ops {
namespace {

TEST(InstructionSet, IsTheForcedOne) {
  const char* const value = std::getenv("GPT_FORCE_ISA");
  const std::string forced = value == nullptr ? "" : value;
  if (forced.empty()) GTEST_SKIP() << "GPT_FORCE_ISA names nothing; ctest names each set in turn";
  const bool units = forced == "avx512_vnni" || forced == "amx";
  EXPECT_EQ(instruction_set(), units ? "avx512" : forced);
  EXPECT_EQ(integer_instruction_set(), forced);
  EXPECT_EQ(use_amx(), forced == "amx") << "whatever the CPU has";
  EXPECT_EQ(integer_instruction_set(), forced);
}

}  // namespace
}  // namespace gpt::ops
