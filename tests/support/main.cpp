#include <gtest/gtest.h>

#include <cstdio>

#include "gpt/core/error.h"
#include "gpt/ops/isa.h"

// Under the sanitizers an allocation that is too large must fail as it does without them, not end the program.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }
// LLVM's OpenMP runtime keeps what it allocated for host threads that have ended.
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp.so\n"; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    gpt::ops::instruction_set();
  } catch (const gpt::UnsupportedError& e) {  // GPT_FORCE_ISA names one that this CPU lacks
    std::printf("SKIPPED: %s\n", e.what());
    return 77;  // what ctest takes for skipped
  }
  return RUN_ALL_TESTS();
}
