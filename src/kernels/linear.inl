// The float matrix product. Element (m, n) is one chain of fused multiply-adds over k = 0 .. K-1 starting at 0, whichever
// loop computes it: vectors run over n, and a partial sum that is put away and taken up again is the same number.

namespace gpt::kernels {
namespace {

/// sums[r][16] += x[r][0 .. count) times w[count][16], for `rows` rows. The sums of a first block begin at 0.
template <class Loader, int rows>
GPT_ALONE void multiply(const float* x, std::int64_t x_stride, const typename Loader::Element* w,
                        std::int64_t count, float* sums, bool first, Upcoming next) noexcept {
  const auto* ahead = static_cast<const char*>(next.data);
  F32x16 acc[static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) acc[r] = first ? broadcast(0.0f) : load(sums + r * kLanes);
  for (std::int64_t k = 0; k < count; ++k) {
    const F32x16 v = Loader::load(w + k * kLanes);
    prefetch(ahead + k * next.bytes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[r] = fma(broadcast(x[r * x_stride + k]), v, acc[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) store(sums + r * kLanes, acc[r]);
}

/// The same for a number of rows known at run time, 1 .. kMicroRows.
template <class Loader, int most = kMicroRows>
inline void multiply_rows(std::int64_t rows, const float* x, std::int64_t x_stride,
                          const typename Loader::Element* w, std::int64_t count, float* sums, bool first,
                          Upcoming next) noexcept {
  if constexpr (most > 1)
    if (rows < most) return multiply_rows<Loader, most - 1>(rows, x, x_stride, w, count, sums, first, next);
  multiply<Loader, most>(x, x_stride, w, count, sums, first, next);
}

/// Adds inputs k0 .. k0 + count of rows m0 .. m0 + rows, times a block of a panel, to sums[rows][16].
template <class Loader>
inline void multiply_block(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel,
                           std::int64_t k0, std::int64_t count, const typename Loader::Element* w,
                           float* sums, const void* next) noexcept {
  const Stage stage{k0 == 0, k0 + count == a.k};
  const std::int64_t tiles = tiles_of(rows);
  const std::int64_t bytes = count * kLanes * static_cast<std::int64_t>(sizeof(typename Loader::Element));
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t r = tile_begin(rows, t), tile = tile_begin(rows, t + 1) - r;
    const Upcoming part = tiles <= kTilesToFetch ? part_of(next, bytes, t, tiles, count) : Upcoming{w, 0};
    if (tiles > kTilesToFetch)
      for (std::int64_t line = bytes * t / tiles; line < bytes * (t + 1) / tiles; line += 64)
        prefetch(static_cast<const char*>(next) + line);
    if (stage.last) expect_rows(a, m0 + r, tile, panel);
    multiply_rows<Loader>(tile, a.x + (m0 + r) * a.k + k0, a.k, w, count, sums + r * kLanes, stage.first,
                          part);
    if (stage.last) finish_rows(a, sums + r * kLanes, m0 + r, tile, panel);
  }
}

/// Many rows: a block of x meets kTaskPanels blocks of panels, each used for all its rows before it leaves the cache.
void linear_blocked(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                    std::int64_t panel_end) noexcept {
  const PanelSource source{a};
  if constexpr (kWidePanels > 0) {
    static_assert(kWidePanels == 0 || kWidePanels == kTaskPanels);  // as many as a whole group has
    const std::int64_t groups = (panel_end - panel_begin) / kWidePanels;
    if (groups > 0) linear_wide<kWidePanels>(a, m0, rows, panel_begin, groups);
    panel_begin += groups * kWidePanels;
  }
  alignas(64) float sums[kTaskPanels][kMostLinearRows * kLanes];
  alignas(64) float copied[kBlockK * kLanes];
  // What few rows ask of a panel is soon done: then panels in order keep memory streaming. In a file's layout neighbouring
  // panels share pages.
  const bool in_order = a.layout == ops::WeightLayout::kPanels && rows <= 4 * kMicroRows;
  const std::int64_t group = in_order ? 1 : kTaskPanels;
  for (std::int64_t p0 = panel_begin; p0 < panel_end; p0 += group) {
    const std::int64_t panels = panel_end - p0 < group ? panel_end - p0 : group;
    for (std::int64_t k0 = 0; k0 == 0 || k0 < a.k; k0 += kBlockK) {
      const std::int64_t count = a.k - k0 < kBlockK ? a.k - k0 : kBlockK;
      for (std::int64_t p = 0; p < panels; ++p) {
        const float* block = source.in_place(p0 + p, k0);
        const float* next = block;
        if (block == nullptr) {
          source.copy(p0 + p, k0, count, copied);
          block = next = copied;
        } else if (p + 1 < panels) {
          next = source.in_place(p0 + p + 1, k0);
        } else if (k0 + kBlockK < a.k) {
          next = source.in_place(p0, k0 + kBlockK);
        } else if (p0 + p + 1 < panel_end) {
          next = source.in_place(p0 + p + 1, 0);
        }
        multiply_block<Loader<DType::f32>>(a, m0, rows, p0 + p, k0, count, block, sums[p], next);
      }
    }
  }
}

/// `rows` rows, few enough for registers, against `panels` panels side by side, each read once from memory.
template <class Loader, int rows, int panels>
GPT_ALONE void stream(const LinearArgs& a, std::int64_t panel) noexcept {
  const auto* w = static_cast<const typename Loader::Element*>(a.weight) + panel * a.k * kLanes;
  const std::int64_t stride = a.k * kLanes;
  F32x16 acc[static_cast<unsigned>(rows)][static_cast<unsigned>(panels)];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) acc[r][p] = broadcast(0.0f);
  for (std::int64_t k = 0; k < a.k; ++k) {
    for_each_product<panels, rows>(
        [&](int p) noexcept {
          const auto* from = w + p * stride + k * kLanes;
          prefetch(static_cast<const char*>(static_cast<const void*>(from)) + kPrefetch);
          return Loader::load(from);
        },
        [&](int r) noexcept { return broadcast(a.x[r * a.k + k]); },
        [&](int p, int r, const F32x16& v, const F32x16& x) noexcept { acc[r][p] = fma(x, v, acc[r][p]); });
  }
  alignas(64) float sums[static_cast<unsigned>(rows) * kLanes];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(sums + r * kLanes, acc[r][p]);
    finish_rows(a, sums, 0, rows, panel + p);
  }
}

template <class Loader, int rows = kMicroRows>
void linear_streamed(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  if constexpr (rows > 1)
    if (a.m < rows) return linear_streamed<Loader, rows - 1>(a, panel_begin, panel_end);
  constexpr int together = streamed_panels(kStreamSums, rows);
  std::int64_t panel = panel_begin;
  for (; panel + together <= panel_end; panel += together) stream<Loader, rows, together>(a, panel);
  if constexpr (together > 1)
    for (; panel < panel_end; ++panel) stream<Loader, rows, 1>(a, panel);
}

/// Few rows against a weight [K, N] as it lies in its file: whole stretches of its rows are streamed in order, four at a
/// time, into sums that stay in the first-level cache.
inline constexpr std::int64_t kStreamRows = 4;
inline constexpr std::int64_t kStreamPanels = 64;

template <DType dtype>
void linear_in_out(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  alignas(64) float sums[kStreamRows][kStreamPanels * kLanes];
  const auto* w = static_cast<const typename Loader<dtype>::Element*>(a.weight);
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
      for (std::int64_t j = 0; j < width; j += kLanes) {
        const Finish<f> finish(a, n0 + j, n0 + width);
        for (std::int64_t m = 0; m < a.m; ++m) finish.row(m, load(sums[m] + j));
      }
    });
  }
}

/// A block of rows in the loop that suits their number and the weight.
template <DType dtype>
void linear_typed(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                  std::int64_t panel_end) noexcept {
  if (a.layout == ops::WeightLayout::kPanels && a.m <= kMicroRows)
    linear_streamed<Loader<dtype>>(a, panel_begin, panel_end);
  else if (a.layout == ops::WeightLayout::kInOut && a.m <= kStreamRows)
    linear_in_out<dtype>(a, panel_begin, panel_end);
  else
    linear_blocked(a, m0, rows, panel_begin, panel_end);
}

void linear_float(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  switch (a.format) {
    case ops::WeightFormat::f32: return for_each_block(a, begin, end, linear_typed<DType::f32>);
    case ops::WeightFormat::f16: return for_each_block(a, begin, end, linear_typed<DType::f16>);
    case ops::WeightFormat::bf16: return for_each_block(a, begin, end, linear_typed<DType::bf16>);
    default: return for_each_block(a, begin, end, linear_blocked);  // weight-only
  }
}

}  // namespace
}  // namespace gpt::kernels
