// The float matrix product where registers hold the sums of several panels.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kWideK = 128;  // blocks of kWidePanels panels: 32 KiB, of 48

/// sums[p][r][16] += x[r][0 .. count) times w[p][count][16], for `rows` rows and kWidePanels panels. A number of x is read once
/// for all of them: two loads feed five multiply-adds, which wide vectors need.
template <int rows, int panels>
GPT_ALONE void multiply_wide(const float* x, std::int64_t x_stride, const float* w, std::int64_t w_stride,
                             std::int64_t count, float* sums, bool first) noexcept {
  constexpr std::int64_t kSums = kLinearRows * kLanes;
  F32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[p][r] = first ? broadcast(0.0f) : load(sums + p * kSums + r * kLanes);
  for (std::int64_t k = 0; k < count; ++k) {
    F32x16 v[static_cast<unsigned>(panels)];
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) v[p] = load(w + p * w_stride + k * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const F32x16 b = broadcast(x[r * x_stride + k]);
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p) acc[p][r] = fma(b, v[p], acc[p][r]);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(sums + p * kSums + r * kLanes, acc[p][r]);
}

/// Asks for `count` numbers of each row of a tile of x.
inline void ask_for_rows(const float* x, std::int64_t x_stride, std::int64_t count) noexcept {
  constexpr std::int64_t kLine = 64 / sizeof(float);
  for (std::int64_t r = 0; r < kWideRows; ++r)
    for (std::int64_t i = 0; i < count; i += kLine) prefetch(x + r * x_stride + i);
}

/// Many rows against kWidePanels panels, side by side in registers.
template <int panels>
void linear_wide(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel) noexcept {
  const PanelSource source{a};
  alignas(64) float sums[static_cast<unsigned>(panels)][kLinearRows * kLanes];
  alignas(64) float copied[static_cast<unsigned>(panels)][kWideK * kLanes];
  const std::int64_t tiles = (rows + kWideRows - 1) / kWideRows;
  // Rows so long that they leave the second-level cache between one group of panels and the next. No processor fetches pieces of
  // 128 numbers ahead by itself.
  const bool far = a.k > 1024;
  for (std::int64_t k0 = 0; k0 == 0 || k0 < a.k; k0 += kWideK) {
    const std::int64_t count = a.k - k0 < kWideK ? a.k - k0 : kWideK;
    const Stage stage{k0 == 0, k0 + count == a.k};
    const float* block = source.in_place(panel, k0);
    std::int64_t stride = a.k * kLanes;
    if (block == nullptr) {
      for (int p = 0; p < panels; ++p) source.copy(panel + p, k0, count, copied[p]);
      block = copied[0];
      stride = kWideK * kLanes;
    }
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t r = rows * t / tiles, tile = rows * (t + 1) / tiles - r;
      if (far) {  // the tile after this one
        const bool here = r + tile < rows;
        ask_for_rows(a.x + (here ? m0 + r + tile : m0) * a.k + (here ? k0 : k0 + kWideK), a.k, kWideK);
      }
      if (stage.last)
        for (int p = 0; p < panels; ++p) expect_rows(a, m0 + r, tile, panel + p);
      with_count<kWideRows>(tile, [&]<int n>() noexcept {
        multiply_wide<n, panels>(a.x + (m0 + r) * a.k + k0, a.k, block, stride, count, sums[0] + r * kLanes,
                                 stage.first);
      });
      if (stage.last)
        for (int p = 0; p < panels; ++p) finish_rows(a, sums[p] + r * kLanes, m0 + r, tile, panel + p);
    }
  }
}

}  // namespace
}  // namespace gpt::kernels
