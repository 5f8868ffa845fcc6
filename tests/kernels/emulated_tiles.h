// Stands in for kernels/tiles_amx.h: the same functions in plain C++.
#pragma once

#include <cstdint>

namespace gpt::kernels {
namespace {

struct EmulatedTiles {
  std::int64_t rows = 0, depth = 0;
  std::int32_t sums[2][2][16][16];
};
thread_local EmulatedTiles emulated_tiles;

struct Tiles {
  Tiles(std::int64_t rows, std::int64_t depth) noexcept {
    emulated_tiles.rows = rows;
    emulated_tiles.depth = depth;
  }
};

inline void written_for_tiles() noexcept {}

template <int set>
void clear_sums() noexcept {
  __builtin_memset(emulated_tiles.sums[set], 0, sizeof emulated_tiles.sums[set]);
}

template <class X>
void multiply_emulated(std::int32_t (&sums)[16][16], const X* x, const std::int8_t* w,
                       std::int64_t depth) noexcept {
  for (std::int64_t r = 0; r < emulated_tiles.rows; ++r)
    for (std::int64_t j = 0; j < 16; ++j)
      for (std::int64_t k = 0; k < emulated_tiles.depth; ++k)
        sums[r][j] += x[r * depth + k] * w[(k / 4 * 16 + j) * 4 + k % 4];
}

template <int set>
void multiply_bytes(const std::int8_t* x, const std::int8_t* w, std::int64_t depth) noexcept {
  multiply_emulated(emulated_tiles.sums[set][0], x, w, depth);
}

template <int set>
void multiply_halves(const std::int8_t* high, const std::int8_t* low, const std::int8_t* w,
                     std::int64_t depth) noexcept {
  multiply_emulated(emulated_tiles.sums[set][0], high, w, depth);
  multiply_emulated(emulated_tiles.sums[set][1],
                    static_cast<const std::uint8_t*>(static_cast<const void*>(low)), w, depth);
}

template <int set>
void store_sums(std::int32_t* to) noexcept {
  __builtin_memcpy(to, emulated_tiles.sums[set][0], static_cast<std::size_t>(emulated_tiles.rows) * 64);
}
template <int set>
void store_low_sums(std::int32_t* to) noexcept {
  __builtin_memcpy(to, emulated_tiles.sums[set][1], static_cast<std::size_t>(emulated_tiles.rows) * 64);
}

}  // namespace
}  // namespace gpt::kernels
