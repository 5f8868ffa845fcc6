// AMX's tiles, as linear_tiles.inl uses them: two of sums, and one each of x and of the matrix.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace gpt::kernels {
namespace {

/// What the calling thread's tiles look like, as long as this lives.
class Tiles {
 public:
  /// Sums of `rows` rows with 16 outputs, of products `depth` inputs deep. rows <= 16, depth 32 or 64.
  Tiles(std::int64_t rows, std::int64_t depth) noexcept {
    Configuration c;
    for (int t = 0; t < kTiles; ++t) {
      c.rows[t] = static_cast<std::uint8_t>(t == kMatrix ? depth / 4 : rows);
      c.row_bytes[t] = static_cast<std::uint16_t>(t == kRows ? depth : 64);
    }
    // Not the intrinsic: gcc 12 takes it to read 8 of these bytes, and may drop what was written to the others.
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  static constexpr int kTiles = 4, kRows = 2, kMatrix = 3;  // 0 and 1: the sums
  struct alignas(64) Configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  };
};

// The numbers of tiles are part of the instructions.
template <int set>
void clear_sums() noexcept {
  if constexpr (set == 0)
    _tile_zero(0);
  else
    _tile_zero(1);
}

/// What was written before can be read by tiles after it: the compiler does not see that they read memory.
inline void written_for_tiles() noexcept { __asm__ volatile("" ::: "memory"); }

/// Sums += x times the matrix, for x of bytes [rows, depth] and a matrix of bytes [depth / 4, 16, 4].
template <int set>
void multiply_bytes(const std::int8_t* x, const std::int8_t* w, std::int64_t depth) noexcept {
  _tile_loadd(3, w, 64);
  _tile_loadd(2, x, depth);
  if constexpr (set == 0)
    _tile_dpbssd(0, 2, 3);
  else
    _tile_dpbssd(1, 2, 3);
}

/// Writes sums [rows, 16].
template <int set>
void store_sums(std::int32_t* to) noexcept {
  if constexpr (set == 0)
    _tile_stored(0, to, 64);
  else
    _tile_stored(1, to, 64);
}

}  // namespace
}  // namespace gpt::kernels
