// Quantized weights. The integer product of a stretch of inputs (a group, or 256 inputs where scales are per channel) is
// exact; stretches follow one another in order:
//   sum = fma(float(sum over the stretch of x16 (q - zero)), scale, sum),   y = sum * x_scale
// Weight-only matrices are widened to float32 blocks, w = scale (q - zero), and go through linear.inl.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kStep = ops::kQuantizedStep;

constexpr std::int64_t padded_inputs(std::int64_t k) noexcept { return (k + kStep - 1) / kStep * kStep; }

/// The scales or zero points of a panel's group begin here.
inline std::int64_t group_place(const Matrix& a, std::int64_t panel, std::int64_t group) noexcept {
  return (panel * a.groups() + (a.group_size == 0 ? 0 : group)) * kLanes;
}

template <ops::WeightFormat format>
struct Quanta;

/// q of two neighbouring inputs side by side: a vector holds (k, k + 1) of 16 outputs.
template <>
struct Quanta<ops::WeightFormat::int8> {
  static const std::int8_t* at(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
    return static_cast<const std::int8_t*>(a.weight) + (panel * padded_inputs(a.k) + k) * kLanes;
  }
  /// Calls f(i, vector) for the four pairs of a step of 8 inputs.
  template <class F>
  static void step(const std::int8_t* q, F f) noexcept {
    f(0, widen_i8(q));
    f(1, widen_i8(q + 32));
    f(2, widen_i8(q + 64));
    f(3, widen_i8(q + 96));
  }
  static constexpr std::int64_t kStepBytes = 128;
  static constexpr bool kHasZero = false;
  static I32x16 zero(const Matrix&, std::int64_t) noexcept { return broadcast_i32(0); }
};

template <>
struct Quanta<ops::WeightFormat::int4> {
  static const std::uint16_t* at(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
    return static_cast<const std::uint16_t*>(a.weight) +
           (panel * padded_inputs(a.k) + k) / kStep * 2 * kLanes;
  }
  template <class F>
  static void step(const std::uint16_t* q, F f) noexcept {
    const I16x32 fours = load_u16(q);
    f(0, nibbles<0>(fours));
    f(1, nibbles<1>(fours));
    f(2, nibbles<2>(fours));
    f(3, nibbles<3>(fours));
  }
  static constexpr std::int64_t kStepBytes = 64;
  static constexpr bool kHasZero = true;
  static I32x16 zero(const Matrix& a, std::int64_t place) noexcept {
    return a.zero_points == nullptr ? broadcast_i32(8) : load_u8(a.zero_points + place);
  }
};

template <class F>
inline void with_quanta(ops::WeightFormat format, F f) noexcept {
  if (format == ops::WeightFormat::int8) return f.template operator()<Quanta<ops::WeightFormat::int8>>();
  f.template operator()<Quanta<ops::WeightFormat::int4>>();
}

/// w = scale (q - zero) of inputs k0 .. k0 + count, as [count][16]; k0 begins a step.
template <class Q>
void dequantize_block(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                      float* to) noexcept {
  const std::int64_t stretch = a.stretch();
  for (std::int64_t k = k0; k < k0 + count;) {
    const std::int64_t place = group_place(a, panel, k / stretch);
    const F32x16 scale = load_weights(a.scales, place, kLanes);
    const I32x16 zero = Q::zero(a, place);
    std::int64_t end = (k / stretch + 1) * stretch;
    if (end > k0 + count) end = k0 + count;
    for (; k < end; k += kStep) {
      float* out = to + (k - k0) * kLanes;
      const std::int64_t left = end - k;
      Q::step(Q::at(a, panel, k), [&](int i, const I16x32& q) noexcept {
        if (2 * i < left) store(out + 2 * i * kLanes, scale * to_float(even_lanes(q) - zero));
        if (2 * i + 1 < left) store(out + (2 * i + 1) * kLanes, scale * to_float(odd_lanes(q) - zero));
      });
    }
  }
}

void dequantize_block(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                      float* to) noexcept {
  with_quanta(a.format, [&]<class Q>() noexcept { dequantize_block<Q>(a, panel, k0, count, to); });
}

/// Rows of activations as 16-bit integers: scale = max |x| / 32767, q = rint(x * (32767 / max |x|)). A row that is not
/// finite gets the scale NaN, which shows in all its results.
void quantize_rows(const QuantizeRowsArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * a.k;
    std::int16_t* q = a.x16 + row * padded_inputs(a.k);
    F32x16 largest = broadcast(0.0f), not_finite = broadcast(0.0f);
    for (std::int64_t i = 0; i < a.k; i += kLanes) {
      const F32x16 v = load_first(x + i, lanes_left(i, a.k));
      largest = max(abs(v), largest);
      not_finite = fma(v, broadcast(0.0f), not_finite);  // 0, or NaN once there is an infinity or a NaN
    }
    const float max = max_lanes(largest);
    const float check = sum_lanes(not_finite);
    const bool usable = check == 0.0f && max > 0.0f;
    a.x_scales[row] = usable ? max / 32767.0f : check;
    // A row of subnormal numbers: 32767 / max would be infinite.
    const float inverse = usable && max >= 0x1p-100f ? 32767.0f / max : 0.0f;
    for (std::int64_t i = 0; i < a.k; i += kLanes) {
      const int lanes = lanes_left(i, a.k);
      const F32x16 v = usable ? load_first(x + i, lanes) : broadcast(0.0f);
      std::int16_t rounded[kLanes];
      store_i16(rounded, v * broadcast(inverse));
      copy_elements(q + i, rounded, lanes);
    }
    for (std::int64_t i = a.k; i < padded_inputs(a.k); ++i) q[i] = 0;
    for (std::int64_t k = 0, s = 0; k < a.k; k += a.stretch, ++s) {
      std::int32_t sum = 0;
      const std::int64_t last = k + a.stretch < a.k ? k + a.stretch : a.k;
      for (std::int64_t i = k; i < last; ++i) sum += q[i];
      a.x_sums[row * a.stretches() + s] = sum;
    }
  }
}

/// y = residual + f(sum * x_scale + bias)
inline void finish_integer(const LinearArgs& a, float* sums, std::int64_t m0, std::int64_t rows,
                           std::int64_t panel) noexcept {
  for (std::int64_t r = 0; r < rows; ++r)
    store(sums + r * kLanes, load(sums + r * kLanes) * broadcast(a.x_scales[m0 + r]));
  finish_rows(a, sums, m0, rows, panel);
}

/// Few rows: the quanta are widened in registers, `panels` panels side by side; their zero points are taken off the sum.
template <class Q, int rows, int panels>
GPT_ALONE void stream_integer(const LinearArgs& a, std::int64_t panel) noexcept {
  const std::int64_t k_padded = padded_inputs(a.k), stretch = a.stretch();
  alignas(64) float sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows) * kLanes];
  for (int p = 0; p < panels; ++p)
    for (int r = 0; r < rows; ++r) store(sums[p] + r * kLanes, broadcast(0.0f));
  const auto* q = Q::at(a, panel, 0);
  const std::int64_t panel_stride = Q::at(a, panel + 1, 0) - q;
  const std::int64_t step_stride = Q::kStepBytes / static_cast<std::int64_t>(sizeof(*q));
  const std::int16_t* x = a.x16;
  for (std::int64_t k = 0, s = 0; k < a.k; k += stretch, ++s) {
    const std::int64_t end = k + stretch < k_padded ? k + stretch : k_padded;
    I32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) acc[p][r] = broadcast_i32(0);
    for (std::int64_t i = k; i < end; i += kStep, q += step_stride, x += kStep) {
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p) {
        const auto* from = q + p * panel_stride;
        prefetch(static_cast<const char*>(static_cast<const void*>(from)) + kPrefetch);
        if constexpr (Q::kStepBytes > 64)
          prefetch(static_cast<const char*>(static_cast<const void*>(from)) + kPrefetch + 64);
        Q::step(from, [&](int pair, const I16x32& v) noexcept {
#pragma GCC unroll 16
          for (int r = 0; r < rows; ++r)
            acc[p][r] = multiply_add(acc[p][r], broadcast_pair(x + r * k_padded + 2 * pair), v);
        });
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) {
      const std::int64_t place = group_place(a, panel + p, s);
      const F32x16 scale = load_weights(a.scales, place, kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        I32x16 product = acc[p][r];
        if constexpr (Q::kHasZero)
          product = product - Q::zero(a, place) * broadcast_i32(a.x_sums[r * a.stretches() + s]);
        float* sum = sums[p] + r * kLanes;
        store(sum, fma(to_float(product), scale, load(sum)));
      }
    }
  }
  for (int p = 0; p < panels; ++p) finish_integer(a, sums[p], 0, rows, panel + p);
}

template <class Q, int rows = kMicroRows>
void integer_streamed(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  if constexpr (rows > 1)
    if (a.m < rows) return integer_streamed<Q, rows - 1>(a, panel_begin, panel_end);
  constexpr int together = streamed_panels(rows);
  std::int64_t panel = panel_begin;
  for (; panel + together <= panel_end; panel += together) stream_integer<Q, rows, together>(a, panel);
  if constexpr (together > 1)
    for (; panel < panel_end; ++panel) stream_integer<Q, rows, 1>(a, panel);
}

/// A block of a panel, widened: quanta [count / 2][16][2] less their zero points, and the scales of its stretches.
struct WideBlock {
  alignas(64) std::int16_t quanta[kBlockK * kLanes];
  alignas(64) float scales[kBlockK / 32 * kLanes];
};

template <class Q>
inline void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                  WideBlock& block) noexcept {
  const std::int64_t stretch = a.stretch();
  const auto* q = Q::at(a, panel, k0);
  for (std::int64_t k = 0, s = 0; k < count; k += stretch, ++s) {
    const std::int64_t place = group_place(a, panel, (k0 + k) / stretch);
    store(block.scales + s * kLanes, load_weights(a.scales, place, kLanes));
    const I16x32 zero = pairs_of(Q::zero(a, place));
    const std::int64_t end = k + stretch < count ? k + stretch : count;
    for (std::int64_t i = k; i < end; i += kStep) {
      prefetch(static_cast<const char*>(static_cast<const void*>(q)) + kPrefetch);
      if constexpr (Q::kStepBytes > 64)
        prefetch(static_cast<const char*>(static_cast<const void*>(q)) + kPrefetch + 64);
      Q::step(q, [&](int pair, const I16x32& v) noexcept {
        store_i16(block.quanta + (i + 2 * pair) * kLanes, Q::kHasZero ? v - zero : v);
      });
      q += Q::kStepBytes / static_cast<std::int64_t>(sizeof(*q));
    }
  }
}

/// For each stretch in order: sums[r][16] = fma(float(x16[r] times its quanta), scale, sums[r]).
template <int rows, bool fetch>
GPT_ALONE void multiply_wide(const std::int16_t* x, std::int64_t x_stride, const WideBlock& block,
                             std::int64_t count, std::int64_t stretch, float* sums, Upcoming next) noexcept {
  const auto* ahead = static_cast<const char*>(next.data);
  const std::int16_t* w = block.quanta;
  const float* scales = block.scales;
  for (std::int64_t left = count; left > 0; left -= stretch, scales += kLanes) {
    I32x16 acc[static_cast<unsigned>(rows)];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[r] = broadcast_i32(0);
    const std::int64_t pairs = (left < stretch ? left : stretch) / 2;
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

template <bool fetch, int most = kMicroRows>
inline void multiply_wide_rows(std::int64_t rows, const std::int16_t* x, std::int64_t x_stride,
                               const WideBlock& block, std::int64_t count, std::int64_t stretch, float* sums,
                               Upcoming next) noexcept {
  if constexpr (most > 1)
    if (rows < most)
      return multiply_wide_rows<fetch, most - 1>(rows, x, x_stride, block, count, stretch, sums, next);
  multiply_wide<most, fetch>(x, x_stride, block, count, stretch, sums, next);
}

/// Many rows: blocks of up to 256 inputs of a panel are widened once for all of them.
template <class Q>
void integer_blocked(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                     std::int64_t panel_end) noexcept {
  const std::int64_t tiles = (rows + kMicroRows - 1) / kMicroRows;
  const std::int64_t k_padded = padded_inputs(a.k), stretch = a.stretch();
  const std::int64_t group = rows > 4 * kMicroRows ? kTaskPanels : 1;
  alignas(64) float sums[kTaskPanels][kLinearRows * kLanes];
  WideBlock block;
  for (std::int64_t p0 = panel_begin; p0 < panel_end; p0 += group) {
    const std::int64_t panels = panel_end - p0 < group ? panel_end - p0 : group;
    for (std::int64_t p = 0; p < panels; ++p)
      for (std::int64_t r = 0; r < rows; ++r) store(sums[p] + r * kLanes, broadcast(0.0f));
    for (std::int64_t k0 = 0; k0 < k_padded; k0 += kBlockK) {
      const std::int64_t count = k_padded - k0 < kBlockK ? k_padded - k0 : kBlockK;
      for (std::int64_t p = 0; p < panels; ++p) {
        widen<Q>(a, p0 + p, k0, count, block);
        // Where panels come one by one, the next block follows in memory.
        const auto* next = Q::at(a, p0 + p, k0 + count);
        const std::int64_t bytes = count / kStep * Q::kStepBytes;
        for (std::int64_t t = 0; t < tiles; ++t) {
          const std::int64_t r = tile_begin(rows, t, tiles), tile = tile_begin(rows, t + 1, tiles) - r;
          const std::int16_t* x = a.x16 + (m0 + r) * k_padded + k0;
          float* to = sums[p] + r * kLanes;
          if (tiles <= kTilesToFetch)
            multiply_wide_rows<true>(tile, x, k_padded, block, count, stretch, to,
                                     part_of(next, bytes, t, tiles, count));
          else
            multiply_wide_rows<false>(tile, x, k_padded, block, count, stretch, to, {});
        }
      }
    }
    for (std::int64_t p = 0; p < panels; ++p) finish_integer(a, sums[p], m0, rows, p0 + p);
  }
}

void linear_integer_tasks(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  with_quanta(a.format, [&]<class Q>() noexcept {
    for_each_block(a, begin, end,
                   [](const LinearArgs& args, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                      std::int64_t panel_end) noexcept {
                     if (args.m <= kMicroRows) return integer_streamed<Q>(args, panel_begin, panel_end);
                     integer_blocked<Q>(args, m0, rows, panel_begin, panel_end);
                   });
  });
}

}  // namespace
}  // namespace gpt::kernels
