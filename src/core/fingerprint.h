// A number that tells one content from another, to notice that something changed. Not against those who want two
// contents to look the same.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace gpt {

/// 64 bits of a sequence of values. The same on every little-endian machine and in every run; a change of a single value
/// is always noticed, any other overlooked with a probability of about 2^-64.
class Fingerprint {
 public:
  template <std::integral T>
  Fingerprint& add(T value) noexcept {
    // A bijection of the state for every value, and of the value for every state.
    state_ = (state_ ^ static_cast<std::uint64_t>(value)) * 0x9E3779B97F4A7C15u;
    state_ ^= state_ >> 32;
    return *this;
  }

  /// The bytes and how many there are: "ab" and "c" are not "a" and "bc".
  Fingerprint& add(std::string_view bytes) noexcept {
    add(bytes.size());
    for (; bytes.size() > 8; bytes.remove_prefix(8)) add(load(bytes.substr(0, 8)));
    return add(load(bytes));
  }

  std::uint64_t value() const noexcept {
    const std::uint64_t mixed = (state_ ^ (state_ >> 29)) * 0xBF58476D1CE4E5B9u;
    return mixed ^ (mixed >> 32);
  }

 private:
  static std::uint64_t load(std::string_view bytes) noexcept {
    std::uint64_t word = 0;
    if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
    return word;
  }

  std::uint64_t state_ = 0x6A09E667F3BCC909u;  // not 0, so that leading zeros count
};

}  // namespace gpt
