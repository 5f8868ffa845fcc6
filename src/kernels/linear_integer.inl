// Products of quantized matrices with quantized activations (pack_rows.inl). The integer product of a span of inputs is exact;
// spans follow one another in order.
//
//   int8: x rounded to 16 bits, one scale per row. A span is a group, or 256 inputs where scales are per channel.
//     sum = fma(float(sum over the span of x16 q), scale, sum),   y = sum * x_scale
//   int4: x rounded to 8 bits, one scale per row and span. A span is 64 inputs, or 32 where groups are or matrices are
//   asymmetric: what 16-bit sums can hold.
//     sum = fma(float(sum over the span of x8 (q - zero)), scale * x_scale, sum),   y = sum
//
// Sixteen bits cost AVX2 nothing beside int8 weights, where products of bytes would need 32-bit sums as well.

namespace gpt::kernels {
namespace {

inline void prefetch_step(const void* q, std::int64_t bytes) noexcept {
  const char* ahead = static_cast<const char*>(q) + kPrefetch;
  prefetch(ahead);
  if (bytes > 64) prefetch(ahead + 64);
}

/// Products with int8 weights: a vector of pairs of inputs at a time.
struct Int8 : Quanta<ops::WeightFormat::int8> {
  static constexpr int kStreamRows = kMicroRows, kStreamSums = kIntegerSums;

  /// q of a block of a panel, widened [count / 2][16][2], and the scales of its spans.
  struct Block {
    alignas(64) std::int16_t quanta[kBlockK * kLanes];
    alignas(64) float scales[kBlockSpans * kLanes];
  };

  static void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                    Block& block) noexcept {
    load_scales(a, panel, k0, count, block.scales);
    const std::int8_t* q = at(a, panel, k0);
    for (std::int64_t i = 0; i < count; i += kStep, q += kStepBytes) {
      prefetch_step(q, kStepBytes);
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair)
        store_i16(block.quanta + (i + 2 * pair) * kLanes, widen_i8(q + pair * 2 * kLanes));
    }
  }

  /// For each span in order: sums[r][16] = fma(float(x16[r] times its quanta), scale, sums[r]).
  template <int rows, bool fetch>
  GPT_ALONE static void multiply(const LinearArgs& a, std::int64_t row, std::int64_t k0, const Block& block,
                                 std::int64_t count, float* sums, Upcoming next) noexcept {
    const std::int64_t span = a.span();
    const std::int16_t* x = a.packed.x16 + row * padded_inputs(a.k) + k0 * rows;
    const auto* ahead = static_cast<const char*>(next.data);
    const std::int16_t* w = block.quanta;
    const float* scales = block.scales;
    for (std::int64_t left = count; left > 0; left -= span, scales += kLanes) {
      I32x16 acc[static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) acc[r] = broadcast_i32(0);
      const std::int64_t pairs = (left < span ? left : span) / 2;
      for (std::int64_t i = 0; i < pairs; ++i, x += 2 * rows, w += 2 * kLanes) {
        const I16x32 v = load_i16(w);
        if constexpr (fetch) {
          prefetch(ahead);
          ahead += 2 * next.bytes;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[r] = multiply_add(acc[r], broadcast_pair(x + 2 * r), v);
      }
      const F32x16 scale = load(scales);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r)
        store(sums + r * kLanes, fma(to_float(acc[r]), scale, load(sums + r * kLanes)));
    }
  }

  /// The tile of `rows` rows from `row` on, few enough for registers, against `panels` panels side by side, widened in registers.
  template <int rows, int panels>
  GPT_ALONE static void stream(const LinearArgs& a, std::int64_t row, std::int64_t panel) noexcept {
    const std::int64_t k_padded = padded_inputs(a.k), span = a.span();
    alignas(64) float sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows) * kLanes] = {};
    const std::int8_t* q = at(a, panel, 0);
    const std::int64_t panel_stride = k_padded * kLanes;
    const std::int16_t* x = a.packed.x16 + row * k_padded;
    for (std::int64_t k = 0, s = 0; k < a.k; k += span, ++s) {
      const std::int64_t end = k + span < k_padded ? k + span : k_padded;
      I32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[p][r] = broadcast_i32(0);
      for (std::int64_t i = k; i < end; i += kStep, q += kStepBytes, x += kStep * rows) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) prefetch_step(q + p * panel_stride, kStepBytes);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair)
          for_each_product<panels, rows>(
              [&](int p) noexcept { return widen_i8(q + p * panel_stride + pair * 2 * kLanes); },
              [&](int r) noexcept { return broadcast_pair(x + 2 * (pair * rows + r)); },
              [&](int p, int r, const I16x32& v, const I16x32& b) noexcept {
                acc[p][r] = multiply_add(acc[p][r], b, v);
              });
      }
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p) {
        const F32x16 scale = load_weights(a.scales, group_place(a, panel + p, s), kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
          float* sum = sums[p] + r * kLanes;
          store(sum, fma(to_float(acc[p][r]), scale, load(sum)));
        }
      }
    }
    for (int p = 0; p < panels; ++p) finish(a, sums[p], row, rows, panel + p);
  }

  static void finish(const LinearArgs& a, float* sums, std::int64_t m0, std::int64_t rows,
                     std::int64_t panel) noexcept {
    for (std::int64_t r = 0; r < rows; ++r)
      store(sums + r * kLanes, load(sums + r * kLanes) * broadcast(a.packed.scales[m0 + r]));
    finish_rows(a, sums, m0, rows, panel);
  }
};

/// Products with int4 weights: a vector of fours of inputs at a time. The sums of a span begin at -zero times the sums of x,
/// in the same lanes as its products. On the way they may wrap; they end within 16 bits: 32 products of at most 8 and 127, or
/// 16 of 15 and 127.
struct Int4 : Quanta<ops::WeightFormat::int4> {
  // The nibbles need registers, too.
  static constexpr int kStreamRows = kMicroRows * 2 / 3, kStreamSums = kStreamRows;

  /// q of a block of a panel as bytes [count / 4][16][4], and the scales and zero points of its spans.
  struct Block {
    alignas(64) std::uint8_t quanta[kBlockK * kLanes];
    alignas(64) float scales[kBlockSpans * kLanes];
    alignas(64) std::int16_t zeros[kBlockSpans * 2 * kLanes];
  };

  static void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                    Block& block) noexcept {
    load_scales(a, panel, k0, count, block.scales);
    const std::int64_t span = a.span();
    for (std::int64_t k = 0, s = 0; k < count; k += span, ++s) {
      const std::int64_t place = place_of(a, panel, k0 + k);
      store_i16(block.zeros + s * 2 * kLanes, pairs_of(zero(a, place)));
    }
    const std::uint8_t* q = at(a, panel, k0);
    for (std::int64_t i = 0; i < count; i += kStep, q += kStepBytes) {
      prefetch_step(q, kStepBytes);
      const U8x64 both = load_u8x64(q);
      store(block.quanta + i * kLanes, low_nibbles(both));
      store(block.quanta + (i + 4) * kLanes, high_nibbles(both));
    }
  }

  /// What the spans of a tile of x have beside its integers, from input k0 on.
  template <int rows>
  struct Spans {
    Spans(const LinearArgs& a, std::int64_t row, std::int64_t k0) noexcept
        : at(row * a.spans() + k0 / a.span() * rows),
          scales(a.packed.scales + at),
          minus_sums(a.packed.minus_sums + 2 * at) {}

    void begin(std::int64_t s, const I16x32& zeros, FourSums* acc) const noexcept {
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r)
        acc[r] = begin_fours(multiply_low(zeros, broadcast_pair(minus_sums + 2 * (s * rows + r))));
    }
    void end(std::int64_t s, const F32x16& scale, const FourSums* acc, float* sums) const noexcept {
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        float* sum = sums + r * kLanes;
        const F32x16 both = scale * broadcast(scales[s * rows + r]);
        store(sum, fma(to_float(sum_fours(acc[r])), both, load(sum)));
      }
    }

    std::int64_t at;
    const float* scales;
    const std::int16_t* minus_sums;
  };

  /// For each span in order: sums[r][16] = fma(float(x8[r] times its quanta), scale * x_scale[r], sums[r]).
  template <int rows, bool fetch>
  GPT_ALONE static void multiply(const LinearArgs& a, std::int64_t row, std::int64_t k0, const Block& block,
                                 std::int64_t count, float* sums, Upcoming next) noexcept {
    const std::int64_t span = a.span();
    const Spans<rows> spans(a, row, k0);
    const std::int8_t* x = a.packed.x8 + row * padded_inputs(a.k) + k0 * rows;
    const auto* ahead = static_cast<const char*>(next.data);
    const std::uint8_t* w = block.quanta;
    for (std::int64_t k = 0, s = 0; k < count; k += span, ++s) {
      FourSums acc[static_cast<unsigned>(rows)];
      spans.begin(s, load_i16(block.zeros + s * 2 * kLanes), acc);
      const std::int64_t fours = (count - k < span ? count - k : span) / 4;
      for (std::int64_t i = 0; i < fours; ++i, x += 4 * rows, w += 4 * kLanes) {
        const U8x64 v = load_u8x64(w);
        if constexpr (fetch) {
          prefetch(ahead);
          ahead += 4 * next.bytes;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[r] = multiply_add(acc[r], v, broadcast_four(x + 4 * r));
      }
      spans.end(s, load(block.scales + s * kLanes), acc, sums);
    }
  }

  template <int rows, int panels>
  GPT_ALONE static void stream(const LinearArgs& a, std::int64_t row, std::int64_t panel) noexcept {
    const std::int64_t k_padded = padded_inputs(a.k), span = a.span();
    alignas(64) float sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows) * kLanes] = {};
    const std::uint8_t* q = at(a, panel, 0);
    const std::int64_t panel_stride = k_padded / kStep * kStepBytes;
    const Spans<rows> spans(a, row, 0);
    const std::int8_t* x = a.packed.x8 + row * k_padded;
    for (std::int64_t k = 0, s = 0; k < a.k; k += span, ++s) {
      const std::int64_t end = k + span < k_padded ? k + span : k_padded;
      FourSums acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p) spans.begin(s, pairs_of(zero(a, place_of(a, panel + p, k))), acc[p]);
      for (std::int64_t i = k; i < end; i += kStep, q += kStepBytes, x += kStep * rows) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
          const std::uint8_t* from = q + p * panel_stride;
          prefetch_step(from, kStepBytes);
          const U8x64 both = load_u8x64(from), low = low_nibbles(both), high = high_nibbles(both);
#pragma GCC unroll 16
          for (int r = 0; r < rows; ++r) {
            acc[p][r] = multiply_add(acc[p][r], low, broadcast_four(x + 4 * r));
            acc[p][r] = multiply_add(acc[p][r], high, broadcast_four(x + 4 * (rows + r)));
          }
        }
      }
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p)
        spans.end(s, load_weights(a.scales, place_of(a, panel + p, k), kLanes), acc[p], sums[p]);
    }
    for (int p = 0; p < panels; ++p) finish(a, sums[p], row, rows, panel + p);
  }

  static void finish(const LinearArgs& a, float* sums, std::int64_t m0, std::int64_t rows,
                     std::int64_t panel) noexcept {
    finish_rows(a, sums, m0, rows, panel);
  }
};

/// One tile against a range of panels.
template <class Product, int most = Product::kStreamRows>
void stream_tile(const LinearArgs& a, std::int64_t row, std::int64_t rows, std::int64_t panel_begin,
                 std::int64_t panel_end) noexcept {
  if constexpr (most > 1)
    if (rows < most) return stream_tile<Product, most - 1>(a, row, rows, panel_begin, panel_end);
  constexpr int together = streamed_panels(Product::kStreamSums, most);
  std::int64_t panel = panel_begin;
  for (; panel + together <= panel_end; panel += together)
    Product::template stream<most, together>(a, row, panel);
  if constexpr (together > 1)
    for (; panel < panel_end; ++panel) Product::template stream<most, 1>(a, row, panel);
}

/// Few rows. Where they are two tiles, the second reads each panel from the cache.
template <class Product>
void integer_streamed(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  if (tiles_of(a.m) == 1) return stream_tile<Product>(a, 0, a.m, panel_begin, panel_end);
  const std::int64_t half = tile_begin(a.m, 1);
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    stream_tile<Product>(a, 0, half, panel, panel + 1);
    stream_tile<Product>(a, half, a.m - half, panel, panel + 1);
  }
}

template <class Product>
constexpr bool streams(std::int64_t rows) noexcept {
  const std::int64_t tiles = tiles_of(rows);
  return tiles <= 2 && rows - tile_begin(rows, tiles - 1) <= Product::kStreamRows;
}

template <class Product, bool fetch, int most = kMicroRows>
inline void integer_rows(std::int64_t rows, const LinearArgs& a, std::int64_t row, std::int64_t k0,
                         const typename Product::Block& block, std::int64_t count, float* sums,
                         Upcoming next) noexcept {
  if constexpr (most > 1)
    if (rows < most)
      return integer_rows<Product, fetch, most - 1>(rows, a, row, k0, block, count, sums, next);
  Product::template multiply<most, fetch>(a, row, k0, block, count, sums, next);
}

/// Many rows: blocks of up to 256 inputs of a panel are widened once for all of them.
template <class Product>
void integer_blocked(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                     std::int64_t panel_end) noexcept {
  const std::int64_t tiles = tiles_of(rows);
  const std::int64_t k_padded = padded_inputs(a.k);
  const std::int64_t group = rows > 4 * kMicroRows ? kTaskPanels : 1;
  alignas(64) float sums[kTaskPanels][kLinearRows * kLanes];
  typename Product::Block block;
  for (std::int64_t p0 = panel_begin; p0 < panel_end; p0 += group) {
    const std::int64_t panels = panel_end - p0 < group ? panel_end - p0 : group;
    for (std::int64_t p = 0; p < panels; ++p)
      for (std::int64_t r = 0; r < rows; ++r) store(sums[p] + r * kLanes, broadcast(0.0f));
    for (std::int64_t k0 = 0; k0 < k_padded; k0 += kBlockK) {
      const std::int64_t count = k_padded - k0 < kBlockK ? k_padded - k0 : kBlockK;
      for (std::int64_t p = 0; p < panels; ++p) {
        Product::widen(a, p0 + p, k0, count, block);
        // Where panels come one by one, the next block follows in memory.
        const auto* next = Product::at(a, p0 + p, k0 + count);
        const std::int64_t bytes = count / kStep * Product::kStepBytes;
        for (std::int64_t t = 0; t < tiles; ++t) {
          const std::int64_t r = tile_begin(rows, t), tile = tile_begin(rows, t + 1) - r;
          float* to = sums[p] + r * kLanes;
          if (tiles <= kTilesToFetch)
            integer_rows<Product, true>(tile, a, m0 + r, k0, block, count, to,
                                        part_of(next, bytes, t, tiles, count));
          else
            integer_rows<Product, false>(tile, a, m0 + r, k0, block, count, to, {});
        }
      }
    }
    for (std::int64_t p = 0; p < panels; ++p) Product::finish(a, sums[p], m0, rows, p0 + p);
  }
}

template <class Product>
void integer_typed(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                   std::int64_t panel_end) noexcept {
  if (streams<Product>(a.m)) return integer_streamed<Product>(a, panel_begin, panel_end);
  integer_blocked<Product>(a, m0, rows, panel_begin, panel_end);
}

void linear_integer(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (a.packed.x16 != nullptr) return for_each_block(a, begin, end, integer_typed<Int8>);
  for_each_block(a, begin, end, integer_typed<Int4>);
}

constexpr IntegerKernels make_integer_kernels(const char* name) noexcept {
  return {.name = name, .pack_rows = pack_rows, .linear = linear_integer};
}

}  // namespace
}  // namespace gpt::kernels
