// Products of quantized matrices with quantized activations. The integer product of a span of inputs is exact; spans follow
// one another in order.
//
//   int8: x rounded to 16 bits, one scale per row. A span is a group, or 256 inputs where scales are per channel.
//     sum = fma(float(sum over the span of x16 q), scale, sum),   y = sum * x_scale
//   int4: x rounded to 8 bits, one scale per row and span; a span is 32 inputs, whose products fit 16-bit sums.
//     sum = fma(float(sum over the span of x8 (q - zero)), scale * x_scale, sum),   y = sum
//
// Sixteen bits cost AVX2 nothing beside int8 weights, where products of bytes would need 32-bit sums as well.

namespace gpt::kernels {
namespace {

/// What the values of a span have in common: the factor that makes them integers up to `most` and the scale that undoes it. A
/// span that is not finite gets the scale NaN, which shows in all its results.
struct RowScale {
  float scale, factor;
};

inline RowScale row_scale(const float* x, std::int64_t count, float most) noexcept {
  F32x16 largest = broadcast(0.0f), not_finite = broadcast(0.0f);
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const F32x16 v = load_first(x + i, lanes_left(i, count));
    largest = max(abs(v), largest);
    not_finite = fma(v, broadcast(0.0f), not_finite);  // 0, or NaN once there is an infinity or a NaN
  }
  const float max = max_lanes(largest), check = sum_lanes(not_finite);
  if (!(check == 0.0f && max > 0.0f)) return {check, 0.0f};
  // In a span of subnormal numbers most / max would be infinite.
  return {max / most, max >= 0x1p-100f ? most / max : 0.0f};
}

/// q = rint(x * factor), followed by zeros up to a whole step.
template <class Q>
inline void round_row(const float* x, std::int64_t count, float factor, Q* q) noexcept {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const int lanes = lanes_left(i, count);
    const F32x16 v = factor == 0.0f ? broadcast(0.0f) : load_first(x + i, lanes);
    Q rounded[kLanes];
    store_rounded(rounded, v * broadcast(factor));
    copy_elements(q + i, rounded, lanes);
  }
  for (std::int64_t i = count; i < padded_inputs(count); ++i) q[i] = 0;
}

void quantize_rows_16(const QuantizeRowsArgs& a, std::int64_t row) noexcept {
  const float* x = a.x + row * a.k;
  const RowScale s = row_scale(x, a.k, 32767.0f);
  a.to.scales[row] = s.scale;
  round_row(x, a.k, s.factor, a.to.x16 + row * padded_inputs(a.k));
}

void quantize_rows_8(const QuantizeRowsArgs& a, std::int64_t row) noexcept {
  const std::int64_t spans = spans_of(a.k, kInt4Span);
  for (std::int64_t s = 0; s < spans; ++s) {
    const std::int64_t k = s * kInt4Span, count = a.k - k < kInt4Span ? a.k - k : kInt4Span;
    const float* x = a.x + row * a.k + k;
    std::int8_t* q = a.to.x8 + row * padded_inputs(a.k) + k;
    const RowScale scale = row_scale(x, count, 127.0f);
    a.to.scales[row * spans + s] = scale.scale;
    round_row(x, count, scale.factor, q);
    std::int16_t sums[2] = {0, 0};
    for (std::int64_t i = 0; i < padded_inputs(count); i += 4) {
      sums[0] = static_cast<std::int16_t>(sums[0] - q[i] - q[i + 1]);
      sums[1] = static_cast<std::int16_t>(sums[1] - q[i + 2] - q[i + 3]);
    }
    copy_elements(a.to.minus_sums + (row * spans + s) * 2, sums, 2);
  }
}

void quantize_rows(const QuantizeRowsArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row)
    a.format == ops::WeightFormat::int8 ? quantize_rows_16(a, row) : quantize_rows_8(a, row);
}

inline void prefetch_step(const void* q, std::int64_t bytes) noexcept {
  const char* ahead = static_cast<const char*>(q) + kPrefetch;
  prefetch(ahead);
  if (bytes > 64) prefetch(ahead + 64);
}

/// Products with int8 weights: a vector of pairs of inputs at a time.
struct Int8 : Quanta<ops::WeightFormat::int8> {
  static constexpr int kStreamRows = kMicroRows;

  /// q of a block of a panel, widened [count / 2][16][2], and the scales of its spans.
  struct Block {
    alignas(64) std::int16_t quanta[kBlockK * kLanes];
    alignas(64) float scales[kBlockK / 32 * kLanes];
  };

  static void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                    Block& block) noexcept {
    const std::int64_t span = a.span();
    for (std::int64_t k = 0, s = 0; k < count; k += span, ++s)
      store(block.scales + s * kLanes,
            load_weights(a.scales, group_place(a, panel, (k0 + k) / span), kLanes));
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
    const std::int64_t x_stride = padded_inputs(a.k), span = a.span();
    const std::int16_t* x = a.x_rows.x16 + row * x_stride + k0;
    const auto* ahead = static_cast<const char*>(next.data);
    const std::int16_t* w = block.quanta;
    const float* scales = block.scales;
    for (std::int64_t left = count; left > 0; left -= span, scales += kLanes) {
      I32x16 acc[static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) acc[r] = broadcast_i32(0);
      const std::int64_t pairs = (left < span ? left : span) / 2;
      for (std::int64_t i = 0; i < pairs; ++i, x += 2, w += 2 * kLanes) {
        const I16x32 v = load_i16(w);
        if constexpr (fetch) {
          prefetch(ahead);
          ahead += 2 * next.bytes;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[r] = multiply_add(acc[r], broadcast_pair(x + r * x_stride), v);
      }
      const F32x16 scale = load(scales);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r)
        store(sums + r * kLanes, fma(to_float(acc[r]), scale, load(sums + r * kLanes)));
    }
  }

  /// `rows` rows, few enough for registers, against `panels` panels side by side, widened in registers.
  template <int rows, int panels>
  GPT_ALONE static void stream(const LinearArgs& a, std::int64_t panel) noexcept {
    const std::int64_t k_padded = padded_inputs(a.k), span = a.span();
    alignas(64) float sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows) * kLanes] = {};
    const std::int8_t* q = at(a, panel, 0);
    const std::int64_t panel_stride = k_padded * kLanes;
    const std::int16_t* x = a.x_rows.x16;
    for (std::int64_t k = 0, s = 0; k < a.k; k += span, ++s) {
      const std::int64_t end = k + span < k_padded ? k + span : k_padded;
      I32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[p][r] = broadcast_i32(0);
      for (std::int64_t i = k; i < end; i += kStep, q += kStepBytes, x += kStep) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
          const std::int8_t* from = q + p * panel_stride;
          prefetch_step(from, kStepBytes);
#pragma GCC unroll 4
          for (int pair = 0; pair < 4; ++pair) {
            const I16x32 v = widen_i8(from + pair * 2 * kLanes);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r)
              acc[p][r] = multiply_add(acc[p][r], broadcast_pair(x + r * k_padded + 2 * pair), v);
          }
        }
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
    for (int p = 0; p < panels; ++p) finish(a, sums[p], 0, rows, panel + p);
  }

  static void finish(const LinearArgs& a, float* sums, std::int64_t m0, std::int64_t rows,
                     std::int64_t panel) noexcept {
    for (std::int64_t r = 0; r < rows; ++r)
      store(sums + r * kLanes, load(sums + r * kLanes) * broadcast(a.x_rows.scales[m0 + r]));
    finish_rows(a, sums, m0, rows, panel);
  }
};

/// Products with int4 weights: a vector of fours of inputs at a time. The sums of a span begin at -zero times the sums of x,
/// in the same lanes as its products, and end within 16 bits: 16 products of at most 15 and 127; on the way they may wrap.
struct Int4 : Quanta<ops::WeightFormat::int4> {
  static constexpr int kStreamRows = kMicroRows * 2 / 3;  // the nibbles need registers, too
  static constexpr std::int64_t kSpan = kInt4Span;

  /// q of a block of a panel as bytes [count / 4][16][4], and the scales and zero points of its spans.
  struct Block {
    alignas(64) std::uint8_t quanta[kBlockK * kLanes];
    alignas(64) float scales[kBlockK / kSpan * kLanes];
    alignas(64) std::int16_t zeros[kBlockK / kSpan * 2 * kLanes];
  };

  static std::int64_t place_of(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
    return group_place(a, panel, a.group_size == 0 ? 0 : k / a.group_size);
  }

  static void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                    Block& block) noexcept {
    for (std::int64_t k = 0, s = 0; k < count; k += kSpan, ++s) {
      const std::int64_t place = place_of(a, panel, k0 + k);
      store(block.scales + s * kLanes, load_weights(a.scales, place, kLanes));
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

  template <int rows>
  static void begin_span(const LinearArgs& a, std::int64_t row, std::int64_t span, const I16x32& zeros,
                         I16x32* acc) noexcept {
    const std::int64_t spans = spans_of(a.k, kSpan);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      acc[r] = multiply_low(zeros, broadcast_pair(a.x_rows.minus_sums + ((row + r) * spans + span) * 2));
  }
  template <int rows>
  static void end_span(const LinearArgs& a, std::int64_t row, std::int64_t span, const F32x16& scale,
                       const I16x32* acc, float* sums) noexcept {
    const std::int64_t spans = spans_of(a.k, kSpan);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      float* sum = sums + r * kLanes;
      const F32x16 both = scale * broadcast(a.x_rows.scales[(row + r) * spans + span]);
      store(sum, fma(to_float(sum_pairs(acc[r])), both, load(sum)));
    }
  }

  /// For each span in order: sums[r][16] = fma(float(x8[r] times its quanta), scale * x_scale[r], sums[r]).
  template <int rows, bool fetch>
  GPT_ALONE static void multiply(const LinearArgs& a, std::int64_t row, std::int64_t k0, const Block& block,
                                 std::int64_t count, float* sums, Upcoming next) noexcept {
    const std::int64_t x_stride = padded_inputs(a.k);
    const std::int8_t* x = a.x_rows.x8 + row * x_stride + k0;
    const auto* ahead = static_cast<const char*>(next.data);
    const std::uint8_t* w = block.quanta;
    for (std::int64_t k = 0, s = 0; k < count; k += kSpan, ++s) {
      I16x32 acc[static_cast<unsigned>(rows)];
      begin_span<rows>(a, row, k0 / kSpan + s, load_i16(block.zeros + s * 2 * kLanes), acc);
      const std::int64_t fours = (count - k < kSpan ? count - k : kSpan) / 4;
      for (std::int64_t i = 0; i < fours; ++i, x += 4, w += 4 * kLanes) {
        const U8x64 v = load_u8x64(w);
        if constexpr (fetch) {
          prefetch(ahead);
          ahead += 4 * next.bytes;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) acc[r] = multiply_add(acc[r], v, broadcast_four(x + r * x_stride));
      }
      end_span<rows>(a, row, k0 / kSpan + s, load(block.scales + s * kLanes), acc, sums);
    }
  }

  template <int rows, int panels>
  GPT_ALONE static void stream(const LinearArgs& a, std::int64_t panel) noexcept {
    const std::int64_t k_padded = padded_inputs(a.k);
    alignas(64) float sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows) * kLanes] = {};
    const std::uint8_t* q = at(a, panel, 0);
    const std::int64_t panel_stride = k_padded / kStep * kStepBytes;
    const std::int8_t* x = a.x_rows.x8;
    for (std::int64_t k = 0, s = 0; k < a.k; k += kSpan, ++s) {
      const std::int64_t end = k + kSpan < k_padded ? k + kSpan : k_padded;
      I16x32 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p)
        begin_span<rows>(a, 0, s, pairs_of(zero(a, place_of(a, panel + p, k))), acc[p]);
      for (std::int64_t i = k; i < end; i += kStep, q += kStepBytes, x += kStep) {
#pragma GCC unroll 16
        for (int p = 0; p < panels; ++p) {
          const std::uint8_t* from = q + p * panel_stride;
          prefetch_step(from, kStepBytes);
          const U8x64 both = load_u8x64(from), low = low_nibbles(both), high = high_nibbles(both);
#pragma GCC unroll 16
          for (int r = 0; r < rows; ++r) {
            acc[p][r] = multiply_add(acc[p][r], low, broadcast_four(x + r * k_padded));
            acc[p][r] = multiply_add(acc[p][r], high, broadcast_four(x + r * k_padded + 4));
          }
        }
      }
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p)
        end_span<rows>(a, 0, s, load_weights(a.scales, place_of(a, panel + p, k), kLanes), acc[p], sums[p]);
    }
    for (int p = 0; p < panels; ++p) finish(a, sums[p], 0, rows, panel + p);
  }

  static void finish(const LinearArgs& a, float* sums, std::int64_t m0, std::int64_t rows,
                     std::int64_t panel) noexcept {
    finish_rows(a, sums, m0, rows, panel);
  }
};

template <class Product, int rows = Product::kStreamRows>
void integer_streamed(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  if constexpr (rows > 1)
    if (a.m < rows) return integer_streamed<Product, rows - 1>(a, panel_begin, panel_end);
  constexpr int together = streamed_panels(Product::kStreamRows, rows);
  std::int64_t panel = panel_begin;
  for (; panel + together <= panel_end; panel += together) Product::template stream<rows, together>(a, panel);
  if constexpr (together > 1)
    for (; panel < panel_end; ++panel) Product::template stream<rows, 1>(a, panel);
}

template <class Product, bool fetch, int most = kMicroRows>
inline void integer_rows(std::int64_t rows, const LinearArgs& a, std::int64_t row, std::int64_t k0,
                         const typename Product::Block& block, std::int64_t count, float* sums,
                         Upcoming next) noexcept {
  if constexpr (most > 1)
    if (rows < most) return integer_rows<Product, fetch, most - 1>(rows, a, row, k0, block, count, sums, next);
  Product::template multiply<most, fetch>(a, row, k0, block, count, sums, next);
}

/// Many rows: blocks of up to 256 inputs of a panel are widened once for all of them.
template <class Product>
void integer_blocked(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                     std::int64_t panel_end) noexcept {
  const std::int64_t tiles = (rows + kMicroRows - 1) / kMicroRows;
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
          const std::int64_t r = tile_begin(rows, t, tiles), tile = tile_begin(rows, t + 1, tiles) - r;
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
  if (a.m <= Product::kStreamRows) return integer_streamed<Product>(a, panel_begin, panel_end);
  integer_blocked<Product>(a, m0, rows, panel_begin, panel_end);
}

void linear_integer_tasks(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (a.format == ops::WeightFormat::int8) return for_each_block(a, begin, end, integer_typed<Int8>);
  for_each_block(a, begin, end, integer_typed<Int4>);
}

}  // namespace
}  // namespace gpt::kernels
