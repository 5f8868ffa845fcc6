// Integer products of many rows on matrix units: a tile of up to 16 rows of x meets 16 outputs, 64 inputs at a time (32 where
// spans are so short), with 32-bit sums. They are the integers of linear_integer.inl, whose definition this is another way to compute.
//
// In PackedRows a tile of R rows is x: bytes [spans, R, inputs of a span]; scales: as they are there; minus_sums: nothing, since
// bytes of the matrix are without their zero points.

namespace gpt::kernels {
namespace {

inline constexpr int kTileRows = 16;
/// Fewer rows fit one register tile: putting the matrix into tiles would cost more than it gains.
inline constexpr std::int64_t kFewestTileRows = kMicroRows + 1;

/// Whether matrix units serve a product. The other kernels take what does not fill tiles.
inline bool fills_tiles(const LinearArgs& a) noexcept {
  return a.m >= kFewestTileRows && a.k > 0 && a.k % a.span() == 0;
}

struct Int8Tiles : Int8 {
  /// A block of a panel as bytes [count / 4][16][4].
  static void spread(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                     std::int8_t* to) noexcept {
    const std::int8_t* q = at(a, panel, k0);
    for (std::int64_t i = 0; i < count; i += kStep, q += kStepBytes, to += kStepBytes) {
      prefetch_step(q, kStepBytes);
      store_i8(to, fours_of_pairs(q));
      store_i8(to + kStepBytes / 2, fours_of_pairs(q + kStepBytes / 2));
    }
  }
};

struct Int4Tiles : Int4 {
  static void spread(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                     std::int8_t* to) noexcept {
    const std::uint8_t* q = at(a, panel, k0);
    const std::int64_t span = a.span();
    for (std::int64_t k = k0; k < k0 + count; k += span) {
      const I8x64 zeros = fours_of(zero(a, place_of(a, panel, k)));
      for (std::int64_t i = 0; i < span; i += kStep, q += kStepBytes, to += 2 * kStepBytes) {
        prefetch_step(q, kStepBytes);
        const U8x64 both = load_u8x64(q);
        store_i8(to, low_nibbles(both) - zeros);
        store_i8(to + kStepBytes, high_nibbles(both) - zeros);
      }
    }
  }
};

/// Where the sums of two spans of a tile arrive.
struct TileSums {
  alignas(64) std::int32_t sums[2][kTileRows * kLanes] = {};

  I32x16 row(int set, int r) const noexcept { return load_i32(sums[set] + r * kLanes); }
};

/// `count` inputs of a tile of x and of a panel, with their scales.
struct TileBlock {
  const std::int8_t* x;
  const std::int8_t* w;
  const float* scales;      // [spans, 16]
  const float* row_scales;  // [spans, rows]
  std::int64_t rows, span, count;
};

/// Has the sums of a span computed, from x and w on. Everything by value: what is read from memory after a tile was stored waits
/// for it.
template <int set>
[[gnu::always_inline]] inline void start_span(const std::int8_t* x, const std::int8_t* w, std::int64_t span,
                                              TileSums& to) noexcept {
  clear_sums<set>();
  multiply_bytes<set>(x, w, span);
  store_sums<set>(to.sums[set]);
}

/// to[r][16] += the products of the block, one span after another, for 16 rows, of which the last may be nobody's. The next span
/// is computed while the last one is added.
GPT_ALONE void multiply_tile(const TileBlock& block, TileSums& sums, float* to, bool first) noexcept {
  F32x16 acc[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) acc[r] = first ? broadcast(0.0f) : load(to + r * kLanes);
  const std::int64_t span = block.span, rows = block.rows, spans = block.count / span;
  const std::int8_t* x = block.x;
  const std::int8_t* w = block.w;
  const float* scales = block.scales;
  const float* row_scales = block.row_scales;
  const auto start = [&]<int set>() noexcept {
    start_span<set>(x, w, span, sums);
    x += span * rows;
    w += span * kLanes;
  };
  const auto add = [&](int set) noexcept {
    const F32x16 scale = load(scales);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r)
      acc[r] = fma(to_float(sums.row(set, r)), scale * broadcast(row_scales[r]), acc[r]);
    scales += kLanes;
    row_scales += rows;
  };
  start.template operator()<0>();
  for (std::int64_t s = 0; s < spans; s += 2) {
    if (s + 1 < spans) start.template operator()<1>();
    add(0);
    if (s + 1 == spans) break;
    if (s + 2 < spans) start.template operator()<0>();
    add(1);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) store(to + r * kLanes, acc[r]);
}

/// A block of rows against panels: blocks of inputs of up to four panels become bytes in the first-level cache and meet one
/// tile of x after another.
template <class Product>
void tiles_typed(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                 std::int64_t panel_end) noexcept {
  static_assert(kLinearRows % kTileRows == 0);
  alignas(64) float sums[kTaskPanels][kLinearRows * kLanes];
  alignas(64) std::int8_t quanta[kTaskPanels][kBlockK * kLanes];
  alignas(64) float scales[kTaskPanels][kBlockSpans * kLanes];
  const std::int64_t span = a.span(), tiles = tiles_of(rows, kTileRows);
  const Tiles configured((rows + tiles - 1) / tiles, span);
  TileSums products;
  for (std::int64_t p0 = panel_begin; p0 < panel_end; p0 += kTaskPanels) {
    const std::int64_t panels = panel_end - p0 < kTaskPanels ? panel_end - p0 : kTaskPanels;
    for (std::int64_t k0 = 0; k0 < a.k; k0 += kBlockK) {
      const std::int64_t count = a.k - k0 < kBlockK ? a.k - k0 : kBlockK;
      for (std::int64_t p = 0; p < panels; ++p) {
        Product::spread(a, p0 + p, k0, count, quanta[p]);
        load_scales(a, p0 + p, k0, count, scales[p]);
      }
      written_for_tiles();
      for (std::int64_t t = 0; t < tiles; ++t) {
        const std::int64_t r = tile_begin(rows, t, kTileRows), tile = tile_begin(rows, t + 1, kTileRows) - r;
        for (std::int64_t p = 0; p < panels; ++p) {
          const TileBlock block{a.packed.x + (m0 + r) * a.k + k0 * tile,
                                quanta[p],
                                scales[p],
                                a.packed.scales + (m0 + r) * a.spans() + k0 / span * tile,
                                tile,
                                span,
                                count};
          float* to = sums[p] + t * kTileRows * kLanes;  // a tile writes all of its rows
          if (k0 + count == a.k) expect_rows(a, m0 + r, tile, p0 + p);
          multiply_tile(block, products, to, k0 == 0);
          if (k0 + count == a.k) finish_rows(a, to, m0 + r, tile, p0 + p);
        }
      }
    }
  }
}

void pack_tile_row(const LinearArgs& a, const TileRow& at) noexcept {
  const std::int64_t span = a.span(), spans = a.spans();
  const Column<float> scales = at.column<float>(a.packed.scales, spans);
  std::int8_t* to = a.packed.x + at.tile * a.k + (at.row - at.tile) * span;
  for (std::int64_t s = 0; s < spans; ++s, to += at.rows * span) {
    const float* x = a.x + at.row * a.k + s * span;
    const RowScale scale = row_scale(x, span);
    scales[s] = scale.scale;
    for (std::int64_t i = 0; i < span; i += kLanes)
      store_rounded(to + i, scaled(x + i, kLanes, scale.factor));
  }
}

void pack_tile_rows(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (!fills_tiles(a)) return pack_rows(a, begin, end);
  for_each_tile_row(a, begin, end, kTileRows, [&](const TileRow& at) noexcept { pack_tile_row(a, at); });
}

void linear_in_tiles(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (!fills_tiles(a)) return linear_integer(a, begin, end);
  const bool int8 = a.format == ops::WeightFormat::int8;
  for_each_block(a, begin, end, int8 ? tiles_typed<Int8Tiles> : tiles_typed<Int4Tiles>);
}

constexpr IntegerKernels make_tile_kernels(const char* name) noexcept {
  return {.name = name, .pack_rows = pack_tile_rows, .linear = linear_in_tiles};
}

}  // namespace
}  // namespace gpt::kernels
