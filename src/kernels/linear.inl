// The matrix product. Element (m, n) is one chain of fused multiply-adds over k = 0 .. K-1 starting at 0, whichever loop
// computes it: vectors run over n, and a partial sum that is put away and taken up again is the same number.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kBlockK =
    256;  // a packed block of 16 columns is 16 KiB: half of a small L1 cache

/// Copies W[k0 .. k0+count) x [n0 .. n0+columns) to packed[count][16], widened, columns past the end 0.
template <DType dtype>
void pack(const typename Loader<dtype>::Element* w, ops::WeightLayout layout, std::int64_t k_total,
          std::int64_t n_total, std::int64_t k0, std::int64_t count, std::int64_t n0, int columns,
          float* packed) noexcept {
  if (layout == ops::WeightLayout::kInOut) {
    for (std::int64_t k = 0; k < count; ++k)
      store(packed + k * kLanes, load_weights<dtype>(w + (k0 + k) * n_total + n0, columns));
    return;
  }
  for (std::int64_t k = 0; k < count; k += kLanes) {
    const int depth = lanes_left(k, count);
    F32x16 tile[kLanes];
    for (int j = 0; j < kLanes; ++j)
      tile[j] = j < columns ? load_weights<dtype>(w + (n0 + j) * k_total + k0 + k, depth) : broadcast(0.0f);
    transpose(tile);
    for (int i = 0; i < depth; ++i) store(packed + (k + i) * kLanes, tile[i]);
  }
}

/// sums[r][16] += x[r][0 .. count) packed, for `rows` rows.
template <int rows>
inline void multiply(const float* x, std::int64_t x_stride, const float* packed, std::int64_t count,
                     float* sums) noexcept {
  F32x16 acc[static_cast<unsigned>(rows)];
  for (int r = 0; r < rows; ++r) acc[r] = load(sums + r * kLanes);
  for (std::int64_t k = 0; k < count; ++k) {
    const F32x16 w = load(packed + k * kLanes);
    for (int r = 0; r < rows; ++r) acc[r] = fma(broadcast(x[r * x_stride + k]), w, acc[r]);
  }
  for (int r = 0; r < rows; ++r) store(sums + r * kLanes, acc[r]);
}

template <int rows>
inline void multiply_rest(std::int64_t left, const float* x, std::int64_t x_stride, const float* packed,
                          std::int64_t count, float* sums) noexcept {
  if constexpr (rows > 0) {
    if (left == rows) return multiply<rows>(x, x_stride, packed, count, sums);
    multiply_rest<rows - 1>(left, x, x_stride, packed, count, sums);
  }
}

/// y = residual + f(sum + bias) of up to 16 columns of one row.
template <ops::Activation f>
inline void finish(const LinearArgs& a, const F32x16& sum, std::int64_t row, std::int64_t n0,
                   int columns) noexcept {
  F32x16 y = sum;
  if (a.bias.data != nullptr) y = y + load_weights(a.bias, n0, columns);
  y = activate<f>(y);
  if (a.residual != nullptr) y = load_first(a.residual + row * a.n + n0, columns) + y;
  store_first(a.y + row * a.n + n0, y, columns);
}

/// One block of rows of one panel of 16 columns.
template <DType dtype>
void linear_tile(const LinearArgs& a, std::int64_t m0, std::int64_t n0) noexcept {
  const std::int64_t rows = a.m - m0 < kLinearRows ? a.m - m0 : kLinearRows;
  const int columns = lanes_left(n0, a.n);
  alignas(64) float sums[kLinearRows * kLanes];
  alignas(64) float packed[kBlockK * kLanes];
  for (std::int64_t i = 0; i < rows; ++i) store(sums + i * kLanes, broadcast(0.0f));
  const auto* w = static_cast<const typename Loader<dtype>::Element*>(a.weight.data);
  for (std::int64_t k0 = 0; k0 < a.k; k0 += kBlockK) {
    const std::int64_t count = a.k - k0 < kBlockK ? a.k - k0 : kBlockK;
    pack<dtype>(w, a.layout, a.k, a.n, k0, count, n0, columns, packed);
    std::int64_t r = 0;
    for (; r + kMicroRows <= rows; r += kMicroRows)
      multiply<kMicroRows>(a.x + (m0 + r) * a.k + k0, a.k, packed, count, sums + r * kLanes);
    multiply_rest<kMicroRows - 1>(rows - r, a.x + (m0 + r) * a.k + k0, a.k, packed, count, sums + r * kLanes);
  }
  with_activation(a.activation, [&]<ops::Activation f>() noexcept {
    for (std::int64_t r = 0; r < rows; ++r) finish<f>(a, load(sums + r * kLanes), m0 + r, n0, columns);
  });
}

/// Few rows against a weight [K, N]: whole stretches of its rows are streamed in order, four at a time, into sums that
/// stay in the first-level cache.
inline constexpr std::int64_t kStreamRows = 4;
inline constexpr std::int64_t kStreamPanels = 64;

template <DType dtype>
void linear_stream(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  alignas(64) float sums[kStreamRows][kStreamPanels * kLanes];
  const auto* w = static_cast<const typename Loader<dtype>::Element*>(a.weight.data);
  for (std::int64_t p0 = panel_begin; p0 < panel_end; p0 += kStreamPanels) {
    const std::int64_t n0 = p0 * kLanes;
    const std::int64_t panels = panel_end - p0 < kStreamPanels ? panel_end - p0 : kStreamPanels;
    const std::int64_t width = a.n - n0 < panels * kLanes ? a.n - n0 : panels * kLanes;
    for (std::int64_t m = 0; m < a.m; ++m)
      for (std::int64_t j = 0; j < panels; ++j) store(sums[m] + j * kLanes, broadcast(0.0f));
    std::int64_t k = 0;
    for (; k + 4 <= a.k; k += 4)
      for (std::int64_t m = 0; m < a.m; ++m) {
        const float* x = a.x + m * a.k + k;
        const F32x16 x0 = broadcast(x[0]), x1 = broadcast(x[1]), x2 = broadcast(x[2]), x3 = broadcast(x[3]);
        const auto* row = w + k * a.n + n0;
        for (std::int64_t j = 0; j < width; j += kLanes) {
          const int columns = lanes_left(j, width);
          F32x16 acc = load(sums[m] + j);
          acc = fma(x0, load_weights<dtype>(row + j, columns), acc);
          acc = fma(x1, load_weights<dtype>(row + a.n + j, columns), acc);
          acc = fma(x2, load_weights<dtype>(row + 2 * a.n + j, columns), acc);
          acc = fma(x3, load_weights<dtype>(row + 3 * a.n + j, columns), acc);
          store(sums[m] + j, acc);
        }
      }
    for (; k < a.k; ++k)
      for (std::int64_t m = 0; m < a.m; ++m)
        for (std::int64_t j = 0; j < width; j += kLanes)
          store(sums[m] + j,
                fma(broadcast(a.x[m * a.k + k]),
                    load_weights<dtype>(w + k * a.n + n0 + j, lanes_left(j, width)), load(sums[m] + j)));
    with_activation(a.activation, [&]<ops::Activation f>() noexcept {
      for (std::int64_t m = 0; m < a.m; ++m)
        for (std::int64_t j = 0; j < width; j += kLanes)
          finish<f>(a, load(sums[m] + j), m, n0 + j, lanes_left(j, width));
    });
  }
}

template <DType dtype>
void linear_typed(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  if (a.layout == ops::WeightLayout::kInOut && a.m <= kStreamRows) return linear_stream<dtype>(a, begin, end);
  const std::int64_t panels = (a.n + kLanes - 1) / kLanes;
  for (std::int64_t task = begin; task < end; ++task)
    linear_tile<dtype>(a, task / panels * kLinearRows, task % panels * kLanes);
}

void linear_tasks(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  switch (a.weight.dtype) {
    case DType::bf16: return linear_typed<DType::bf16>(a, begin, end);
    case DType::f16: return linear_typed<DType::f16>(a, begin, end);
    default: return linear_typed<DType::f32>(a, begin, end);
  }
}

}  // namespace
}  // namespace gpt::kernels
