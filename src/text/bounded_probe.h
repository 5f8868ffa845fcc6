// Linear probing in the hash tables of this directory.
#pragma once

#include <cstddef>

namespace gpt {

/// How many slots a look-up looks at. Few keys, if any, have their slot as far away. Files can hold keys that were made to have
/// one hash: a table keeps those that find no slot in order elsewhere, so that a look-up stays quick whatever they are.
inline constexpr std::size_t kMostSlots = 128;
inline constexpr std::size_t kNowhere = ~std::size_t{0};

/// The first slot i from `home` on, in a table of `mask` + 1, where `ends(i)`: it is free or the key's. kNowhere when none is near.
template <class Ends>
std::size_t bounded_probe(std::size_t home, std::size_t mask, Ends&& ends) noexcept {
  for (std::size_t distance = 0; distance < kMostSlots; ++distance) {
    const std::size_t i = (home + distance) & mask;
    if (ends(i)) return i;
  }
  return kNowhere;
}

/// How many slots a look-up that ended at `position` looked at.
inline std::size_t slots_to(std::size_t position, std::size_t home, std::size_t mask) noexcept {
  return position == kNowhere ? kMostSlots : ((position - home) & mask) + 1;
}

}  // namespace gpt
