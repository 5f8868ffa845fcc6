// The float matrix product. Element (m, n) is one chain of fused multiply-adds over k = 0 .. K-1 starting at 0, whichever
// loop computes it: vectors run over n, and a partial sum that is put away and taken up again is the same number.

namespace gpt::kernels {
namespace {

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
        [&](int r) noexcept { return broadcast(a.x[r * a.x_stride + k]); },
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

/// What to ask memory for while a tile is computed: `bytes` of every input's share of the block that comes next.
struct Upcoming {
  const void* data = nullptr;
  std::int64_t bytes = 0;
};

/// The part of a next block of `bytes` bytes that tile t of `tiles` asks for, over `count` inputs.
inline Upcoming part_of(const void* block, std::int64_t bytes, std::int64_t t, std::int64_t tiles,
                        std::int64_t count) noexcept {
  return {static_cast<const char*>(block) + bytes * t / tiles, count == 0 ? 0 : bytes / (tiles * count)};
}

/// sums[r][16] += x[r][0 .. count) times w[count][16], for `rows` rows, while the next block is asked for step by step. The sums of
/// a first block begin at 0.
template <int rows>
GPT_ALONE void multiply_asking(const float* x, std::int64_t x_stride, const float* w, std::int64_t count,
                               float* sums, bool first, Upcoming next) noexcept {
  const auto* ahead = static_cast<const char*>(next.data);
  F32x16 acc[static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) acc[r] = first ? broadcast(0.0f) : load(sums + r * kLanes);
  for (std::int64_t k = 0; k < count; ++k) {
    const F32x16 v = load(w + k * kLanes);
    prefetch(ahead + k * next.bytes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[r] = fma(broadcast(x[r * x_stride + k]), v, acc[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) store(sums + r * kLanes, acc[r]);
}

/// Rows that take a few tiles, against panels of floats in their order: what they ask of a panel is soon done, so that memory has
/// to keep streaming.
void linear_in_order(const LinearArgs& a, std::int64_t panel_begin, std::int64_t panel_end) noexcept {
  alignas(64) float sums[kFewRows * kLanes];
  const auto* w = static_cast<const float*>(a.weight);
  const std::int64_t tiles = tiles_of(a.m);
  for (std::int64_t p = panel_begin; p < panel_end; ++p)
    for (std::int64_t k0 = 0; k0 == 0 || k0 < a.k; k0 += kBlockK) {
      const std::int64_t count = a.k - k0 < kBlockK ? a.k - k0 : kBlockK;
      const Stage stage{k0 == 0, k0 + count == a.k};
      const float* block = w + (p * a.k + k0) * kLanes;
      for (std::int64_t t = 0; t < tiles; ++t) {
        const std::int64_t r = tile_begin(a.m, t), tile = tile_begin(a.m, t + 1) - r;
        const std::int64_t bytes = count * kLanes * static_cast<std::int64_t>(sizeof(float));
        const Upcoming next = part_of(block + count * kLanes, bytes, t, tiles, count);
        if (stage.last) expect_rows(a, r, tile, p);
        with_count<kMicroRows>(tile, [&]<int n>() noexcept {
          multiply_asking<n>(a.x + r * a.x_stride + k0, a.x_stride, block, count, sums + r * kLanes,
                             stage.first, next);
        });
        if (stage.last) finish_rows(a, sums + r * kLanes, r, tile, p);
      }
    }
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
        const float* x = a.x + m * a.x_stride + k;
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
                fma(broadcast(a.x[m * a.x_stride + k]),
                    load_weights<dtype>(w + k * a.n + n0 + j, lanes_left(j, width)), load(sums[m] + j)));
    with_activation(a.activation, [&]<ops::Activation f>() noexcept {
      for (std::int64_t j = 0; j < width; j += kLanes) {
        const Finish<f> finish(a, n0 + j, n0 + width);
        for (std::int64_t m = 0; m < a.m; ++m) finish.row(m, load(sums[m] + j));
      }
    });
  }
}

/// The loops that read a matrix of floats once, as it lies: for few rows.
bool streams_panels(const LinearArgs& a) noexcept {
  return a.layout == ops::WeightLayout::kPanels && a.m <= kMicroRows;
}
bool streams_rows(const LinearArgs& a) noexcept {
  return a.layout == ops::WeightLayout::kInOut && a.m <= kStreamRows;
}
bool streams_in_order(const LinearArgs& a) noexcept {
  return kWidePanels == 1 && a.in_place() && a.m <= kFewRows;  // several panels are streams enough
}
bool linear_streams(const LinearArgs& a) noexcept {
  const bool floats = a.format != ops::WeightFormat::int8 && a.format != ops::WeightFormat::int4;
  return floats && (streams_panels(a) || streams_rows(a) || streams_in_order(a));
}

/// A block of rows in the loop that suits their number and the weight.
template <DType dtype>
void linear_typed(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                  std::int64_t panel_end) noexcept {
  if (streams_panels(a))
    linear_streamed<Loader<dtype>>(a, panel_begin, panel_end);
  else if (streams_rows(a))
    linear_in_out<dtype>(a, panel_begin, panel_end);
  else if (streams_in_order(a))
    linear_in_order(a, panel_begin, panel_end);
  else
    linear_many(a, m0, rows, panel_begin, panel_end);
}

void linear_float(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  switch (a.format) {
    case ops::WeightFormat::f32: return for_each_block(a, begin, end, linear_typed<DType::f32>);
    case ops::WeightFormat::f16: return for_each_block(a, begin, end, linear_typed<DType::f16>);
    case ops::WeightFormat::bf16: return for_each_block(a, begin, end, linear_typed<DType::bf16>);
    default: return for_each_block(a, begin, end, linear_many);  // weight-only
  }
}

}  // namespace
}  // namespace gpt::kernels
