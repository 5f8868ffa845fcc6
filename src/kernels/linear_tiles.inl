// Integer products of many rows on matrix units: a tile of up to 16 rows of x meets 16 outputs, 64 inputs at a time (32 where
// spans are), with 32-bit sums. They are the integers of linear_integer.inl, whose definition this is another way to compute.
//
// x of 16 bits are two bytes, x = 256 high + low, and two products. In PackedRows a tile of R rows is
//   x16: bytes [K / depth, 2, R, depth], high before low;   x8: [K / depth, R, depth];   scales: as they are there;
//   minus_sums: nothing, since bytes of the matrix are without their zero points.

namespace gpt::kernels {
namespace {

inline constexpr int kTileRows = 16;
/// Fewer rows fit one register tile: putting the matrix into tiles would cost more than it gains.
inline constexpr std::int64_t kFewestTileRows = kMicroRows + 1;

inline std::int64_t tile_depth(const Matrix& a) noexcept { return a.span() < 64 ? a.span() : 64; }

/// Whether matrix units serve a product. The other kernels take what does not fill tiles.
inline bool fills_tiles(const LinearArgs& a) noexcept {
  return a.m >= kFewestTileRows && a.k > 0 && a.k % tile_depth(a) == 0;
}

struct Int8Tiles : Int8 {
  static constexpr int kHalves = 2;
  static const std::int8_t* packed(const LinearArgs& a, std::int64_t row) noexcept {
    return static_cast<const std::int8_t*>(static_cast<const void*>(a.packed.x16 + row * a.k));
  }

  static void pack(const LinearArgs& a, const TileRow& at) noexcept {
    const float* x = a.x + at.row * a.k;
    const RowScale s = row_scale(x, a.k, 32767.0f);
    a.packed.scales[at.row] = s.scale;
    const std::int64_t depth = tile_depth(a), half = at.rows * depth;
    auto* to = static_cast<std::int8_t*>(static_cast<void*>(a.packed.x16 + at.tile * a.k)) +
               (at.row - at.tile) * depth;
    for (std::int64_t k = 0; k < a.k; k += depth, to += 2 * half)
      for (std::int64_t i = 0; i < depth; i += kLanes)
        store_rounded_halves(to + i, to + half + i, scaled(x + k + i, kLanes, s.factor));
  }

  static const float* row_scales(const LinearArgs&, std::int64_t, std::int64_t, std::int64_t) noexcept {
    return nullptr;  // a row's only scale comes in at the end
  }

  /// A block of a panel as bytes [count / 4][16][4].
  static void spread(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                     std::int8_t* to) noexcept {
    const std::int8_t* q = at(a, panel, k0);
    for (std::int64_t i = 0; i < count; i += 4, q += 4 * kLanes, to += 4 * kLanes) {
      prefetch(static_cast<const char*>(static_cast<const void*>(q)) + kPrefetch);
      store_i16(static_cast<std::int16_t*>(static_cast<void*>(to)),
                alternate(load_i16(static_cast<const std::int16_t*>(static_cast<const void*>(q)))));
    }
  }

  template <int set>
  static void multiply_step(const std::int8_t* x, const std::int8_t* w, std::int64_t depth,
                            std::int64_t x_tile) noexcept {
    multiply_halves<set>(x, x + x_tile, w, depth);
  }
};

struct Int4Tiles : Int4 {
  static constexpr int kHalves = 1;
  static const std::int8_t* packed(const LinearArgs& a, std::int64_t row) noexcept {
    return a.packed.x8 + row * a.k;
  }

  static void pack(const LinearArgs& a, const TileRow& at) noexcept {
    const std::int64_t span = a.span(), spans = a.spans();
    const Column<float> scales = at.column<float>(a.packed.scales, spans);
    std::int8_t* to = a.packed.x8 + at.tile * a.k + (at.row - at.tile) * span;
    for (std::int64_t s = 0; s < spans; ++s, to += at.rows * span) {
      const float* x = a.x + at.row * a.k + s * span;
      const RowScale scale = row_scale(x, span, 127.0f);
      scales[s] = scale.scale;
      for (std::int64_t i = 0; i < span; i += kLanes)
        store_rounded(to + i, scaled(x + i, kLanes, scale.factor));
    }
  }

  /// Those of a tile of `rows` rows from `row` on, from input k0 on.
  static const float* row_scales(const LinearArgs& a, std::int64_t row, std::int64_t rows,
                                 std::int64_t k0) noexcept {
    return a.packed.scales + row * a.spans() + k0 / a.span() * rows;
  }

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

  template <int set>
  static void multiply_step(const std::int8_t* x, const std::int8_t* w, std::int64_t depth,
                            std::int64_t) noexcept {
    multiply_bytes<set>(x, w, depth);
  }
};

/// Where the sums of two spans of a tile arrive.
template <class Product>
struct TileSums {
  alignas(64) std::int32_t sums[2][Product::kHalves][kTileRows * kLanes] = {};

  I32x16 row(int set, int r) const noexcept {
    const I32x16 sum = load_i32(sums[set][0] + r * kLanes);
    if constexpr (Product::kHalves == 2) return times_256(sum) + load_i32(sums[set][1] + r * kLanes);
    return sum;
  }
};

/// `count` inputs of a tile of x and of a panel, with their scales.
struct TileBlock {
  const std::int8_t* x;
  const std::int8_t* w;
  const float* scales;      // [spans, 16]
  const float* row_scales;  // int4: [spans, rows]; null for int8
  std::int64_t rows, depth, span, count;
};

/// Has the sums of `count` inputs computed, from x and w on. Everything by value: what is read from memory after a tile was
/// stored waits for it.
template <class Product, int set>
[[gnu::always_inline]] inline void start_span(const std::int8_t* x, const std::int8_t* w, std::int64_t count,
                                              std::int64_t depth, std::int64_t x_tile,
                                              TileSums<Product>& to) noexcept {
  clear_sums<set>();
  for (; count > 0; count -= depth, x += Product::kHalves * x_tile, w += depth * kLanes)
    Product::template multiply_step<set>(x, w, depth, x_tile);
  store_sums<set>(to.sums[set][0]);
  if constexpr (Product::kHalves == 2) store_low_sums<set>(to.sums[set][1]);
}

/// to[r][16] += the products of the block, one span after another, for 16 rows, of which the last may be nobody's. The next span
/// is computed while the last one is added.
template <class Product>
GPT_ALONE void multiply_tile(const TileBlock& block, TileSums<Product>& sums, float* to,
                             bool first) noexcept {
  F32x16 acc[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) acc[r] = first ? broadcast(0.0f) : load(to + r * kLanes);
  const std::int64_t depth = block.depth, rows = block.rows, x_tile = rows * depth, count = block.count;
  const std::int64_t span = block.span < count ? block.span : count, spans = (count + span - 1) / span;
  const std::int64_t x_span = span * rows * Product::kHalves, w_span = span * kLanes;
  const std::int64_t last = count - (spans - 1) * span;  // inputs of the last span
  const std::int8_t* x = block.x;
  const std::int8_t* w = block.w;
  const float* scales = block.scales;
  const float* row_scales = block.row_scales;
  const auto start = [&]<int set>(std::int64_t s) noexcept {
    start_span<Product, set>(x, w, s + 1 < spans ? span : last, depth, x_tile, sums);
    x += x_span;
    w += w_span;
  };
  const auto add = [&](int set) noexcept {
    const F32x16 scale = load(scales);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      F32x16 both = scale;
      if constexpr (Product::kHalves == 1) both = scale * broadcast(row_scales[r]);
      acc[r] = fma(to_float(sums.row(set, r)), both, acc[r]);
    }
    scales += kLanes;
    if constexpr (Product::kHalves == 1) row_scales += rows;
  };
  start.template operator()<0>(0);
  for (std::int64_t s = 0; s < spans; s += 2) {
    if (s + 1 < spans) start.template operator()<1>(s + 1);
    add(0);
    if (s + 1 == spans) break;
    if (s + 2 < spans) start.template operator()<0>(s + 2);
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
  const std::int64_t span = a.span(), depth = tile_depth(a), tiles = tiles_of(rows, kTileRows);
  const Tiles configured((rows + tiles - 1) / tiles, depth);
  TileSums<Product> products;
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
          const TileBlock block{Product::packed(a, m0 + r) + k0 * tile * Product::kHalves,
                                quanta[p],
                                scales[p],
                                Product::row_scales(a, m0 + r, tile, k0),
                                tile,
                                depth,
                                span,
                                count};
          float* to = sums[p] + t * kTileRows * kLanes;  // a tile writes all of its rows
          if (k0 + count == a.k) expect_rows(a, m0 + r, tile, p0 + p);
          multiply_tile<Product>(block, products, to, k0 == 0);
          if (k0 + count == a.k) Product::finish(a, to, m0 + r, tile, p0 + p);
        }
      }
    }
  }
}

void pack_tile_rows(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (!fills_tiles(a)) return pack_rows(a, begin, end);
  for_each_tile_row(a, begin, end, kTileRows, [&](const TileRow& at) noexcept {
    a.format == ops::WeightFormat::int8 ? Int8Tiles::pack(a, at) : Int4Tiles::pack(a, at);
  });
}

void linear_in_tiles(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (!fills_tiles(a)) return linear_integer(a, begin, end);
  if (a.packed.x16 != nullptr) return for_each_block(a, begin, end, tiles_typed<Int8Tiles>);
  for_each_block(a, begin, end, tiles_typed<Int4Tiles>);
}

constexpr IntegerKernels make_tile_kernels(const char* name) noexcept {
  return {.name = name, .pack_rows = pack_tile_rows, .linear = linear_in_tiles};
}

}  // namespace
}  // namespace gpt::kernels
