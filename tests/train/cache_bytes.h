// Cache files that are written by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/fingerprint.h"

namespace gpt::test {

inline std::string word(std::uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}

/// A file of whole words, with their fingerprint behind them.
inline std::string with_sum(std::string words) {
  Fingerprint sum;
  for (std::size_t i = 0; i < words.size(); i += 8) {
    std::uint64_t value = 0;
    for (std::size_t j = 0; j < 8; ++j)
      value |= std::uint64_t{static_cast<unsigned char>(words[i + j])} << 8 * j;
    sum.add(value);
  }
  return words + word(sum.value());
}

/// The header of a file whose key is 0x1122334455667788 and 7.
inline std::string header(const std::string& name, int version, int width) {
  return name + static_cast<char>(version) + std::string(3, '\0') + static_cast<char>(width) +
         std::string(3, '\0') + word(0x1122334455667788u) + word(7);
}

}  // namespace gpt::test
