// Undoing the hash functions of src/text, to make keys that collide.
#pragma once

#include <cstdint>

namespace gpt::test {

/// The number whose product with the factor of the hash functions is `product`.
constexpr std::uint64_t without_factor(std::uint64_t product) noexcept {
  constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15u;
  std::uint64_t inverse = kFactor;  // right in 3 bits; each step doubles them
  for (int i = 0; i < 5; ++i) inverse *= 2 - kFactor * inverse;
  return product * inverse;
}

}  // namespace gpt::test
