// How a fuzzer is defined: as the function that libFuzzer calls, or as one of those that fuzz_replay runs by their names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "gpt/core/error.h"

namespace gpt::fuzz {

using Fuzzer = int (*)(const std::uint8_t* data, std::size_t size);

/// Those of this program.
inline std::map<std::string, Fuzzer>& fuzzers() {
  static std::map<std::string, Fuzzer> all;
  return all;
}

inline void require(bool condition) {
  if (!condition) __builtin_trap();
}

/// Asks for something that may be of another type than it is asked for as.
template <class Getter>
void ask(Getter getter) {
  try {
    static_cast<void>(getter());
  } catch (const FormatError&) {
  }
}

}  // namespace gpt::fuzz

// GPT_FUZZER(name) { uses the `size` bytes at `data`, and returns 0 }
#ifdef GPT_FUZZ_REPLAY
#define GPT_FUZZER(name)                                              \
  static int fuzz_##name(const std::uint8_t* data, std::size_t size); \
  [[maybe_unused]] static const bool name##_is_known =                \
      gpt::fuzz::fuzzers().emplace(#name, fuzz_##name).second;        \
  static int fuzz_##name(const std::uint8_t* data, std::size_t size)
#else
#define GPT_FUZZER(name) extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
#endif
