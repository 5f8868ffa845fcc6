// Stands in for kernels/vnni.h and kernels/tiles_amx.h: the same functions in plain C++.
#pragma once

#include <cstdint>

namespace gpt::kernels {
namespace {

inline I32x16 multiply_add(const I32x16& sum, const U8x64& a, const I8x64& b) noexcept {
  std::uint8_t x[64];
  std::int8_t y[64];
  std::int32_t z[16];
  store(x, a);
  store_i8(y, b);
  _mm512_storeu_si512(z, sum.v);
  for (int i = 0; i < 64; ++i) z[i / 4] += x[i] * y[i];
  return load_i32(z);
}

struct EmulatedTiles {
  std::int64_t rows = 0, depth = 0;
  std::int32_t sums[2][16][16];
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

template <int set>
void multiply_bytes(const std::int8_t* x, const std::int8_t* w, std::int64_t depth) noexcept {
  for (std::int64_t r = 0; r < emulated_tiles.rows; ++r)
    for (std::int64_t j = 0; j < 16; ++j)
      for (std::int64_t k = 0; k < emulated_tiles.depth; ++k)
        emulated_tiles.sums[set][r][j] += x[r * depth + k] * w[(k / 4 * 16 + j) * 4 + k % 4];
}

template <int set>
void store_sums(std::int32_t* to) noexcept {
  __builtin_memcpy(to, emulated_tiles.sums[set], static_cast<std::size_t>(emulated_tiles.rows) * 64);
}

}  // namespace
}  // namespace gpt::kernels
