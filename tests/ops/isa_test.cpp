// The choice of instructions.
#include "gpt/ops/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace gpt::ops {
namespace {

TEST(InstructionSet, IntegerProductsAreAsNamedUnlessTheChoiceIsFree) {
  const char* const forced = std::getenv("GPT_FORCE_ISA");
  if (forced == nullptr) GTEST_SKIP() << "GPT_FORCE_ISA names nothing; ctest names each set in turn";
  EXPECT_EQ(instruction_set(), forced);
  EXPECT_EQ(integer_instruction_set(), forced);
  EXPECT_FALSE(use_amx()) << "another instruction set was asked for";
  EXPECT_EQ(integer_instruction_set(), forced);
}

}  // namespace
}  // namespace gpt::ops
