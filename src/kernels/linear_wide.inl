// The float matrix product where registers hold the sums of several panels.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kWideK = 128;  // blocks of kWidePanels panels: 32 KiB, of 48

/// Sums of `rows` rows of neighbouring panels: those of a row lie together, the next row's `stride` numbers further.
struct WideSums {
  float* data;
  std::int64_t stride;
};

/// sums[r][p][16] += x[r][0 .. count) times w[p][count][16], for `rows` rows and kWidePanels panels. A number of x is read once
/// for all of them: two loads feed five multiply-adds, which wide vectors need.
template <int rows, int panels>
GPT_ALONE void multiply_wide(const float* x, std::int64_t x_stride, const float* w, std::int64_t w_stride,
                             std::int64_t count, const WideSums& sums, bool first) noexcept {
  F32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      acc[p][r] = first ? broadcast(0.0f) : load(sums.data + r * sums.stride + p * kLanes);
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
    for (int r = 0; r < rows; ++r) store(sums.data + r * sums.stride + p * kLanes, acc[p][r]);
}

/// Asks for `count` numbers of each row of a tile of x.
inline void ask_for_rows(const float* x, std::int64_t x_stride, std::int64_t count) noexcept {
  constexpr std::int64_t kLine = 64 / sizeof(float);
  for (std::int64_t r = 0; r < kWideRows; ++r)
    for (std::int64_t i = 0; i < count; i += kLine) prefetch(x + r * x_stride + i);
}

/// Asks for the part of a block of the matrix that belongs to tile t.
inline void ask_for_part(const PanelSource::Place& next, std::int64_t t, std::int64_t tiles) noexcept {
  constexpr std::int64_t kLine = 64;
  const std::int64_t lines = (next.bytes + kLine - 1) / kLine, all = next.rows * lines;
  for (std::int64_t i = all * t / tiles; i < all * (t + 1) / tiles; ++i)
    prefetch_far(next.data + i / lines * next.stride + i % lines * kLine);
}

/// Many rows of x against groups of kWidePanels panels, a group's side by side in registers.
template <int panels>
struct WideProduct {
  const LinearArgs& a;
  std::int64_t m0, rows;
  PanelSource source{a};
  std::int64_t tiles = (rows + kWideRows - 1) / kWideRows;

  std::int64_t depth(std::int64_t k0) const noexcept { return a.k - k0 < kWideK ? a.k - k0 : kWideK; }

  /// Inputs k0 .. of the group of panels at `panel`; `next` is the block that will be asked for then. `far`: whether rows of x
  /// come from beyond the second-level cache. No processor fetches pieces of 128 numbers ahead by itself.
  void block(std::int64_t panel, std::int64_t k0, const WideSums& sums, const PanelSource::Place& next,
             bool far) const noexcept {
    alignas(64) float copied[static_cast<unsigned>(panels)][kWideK * kLanes];
    const std::int64_t count = depth(k0);
    const Stage stage{k0 == 0, k0 + count == a.k};
    const float* w = source.in_place(panel, k0);
    std::int64_t stride = a.k * kLanes;
    if (w == nullptr) {
      for (int p = 0; p < panels; ++p) source.copy(panel + p, k0, count, copied[p]);
      w = copied[0];
      stride = kWideK * kLanes;
    }
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t r = rows * t / tiles, tile = rows * (t + 1) / tiles - r;
      if (far) {  // the tile after this one
        const bool here = r + tile < rows;
        ask_for_rows(a.x + (here ? m0 + r + tile : m0) * a.k + (here ? k0 : k0 + kWideK), a.k, kWideK);
      }
      ask_for_part(next, t, tiles);
      if (stage.last)
        for (int p = 0; p < panels; ++p) expect_rows(a, m0 + r, tile, panel + p);
      const WideSums of_tile{sums.data + r * sums.stride, sums.stride};
      with_count<kWideRows>(tile, [&]<int n>() noexcept {
        multiply_wide<n, panels>(a.x + (m0 + r) * a.k + k0, a.k, w, stride, count, of_tile, stage.first);
      });
      if (stage.last)
        for (int p = 0; p < panels; ++p)
          finish_rows(a, of_tile.data + p * kLanes, m0 + r, tile, panel + p, sums.stride);
    }
  }

  /// The block that follows, of this group or the next one.
  PanelSource::Place next_in_group(std::int64_t panel, std::int64_t k0, bool last_group) const noexcept {
    if (k0 + kWideK < a.k) return source.place_of(panel, panels, k0 + kWideK, depth(k0 + kWideK));
    return last_group ? PanelSource::Place{} : source.place_of(panel + panels, panels, 0, depth(0));
  }

  /// One group after another, with sums of its own.
  void by_groups(std::int64_t panel, std::int64_t groups, bool far) const noexcept {
    alignas(64) float sums[static_cast<unsigned>(kMostLinearRows * panels * kLanes)];
    for (std::int64_t g = 0; g < groups; ++g, panel += panels)
      for (std::int64_t k0 = 0; k0 == 0 || k0 < a.k; k0 += kWideK)
        block(panel, k0, {sums, panels * kLanes}, next_in_group(panel, k0, g + 1 == groups), far);
  }

  /// Rows so long that they do not stay in the second-level cache: a block of x meets all groups, whose sums wait in y.
  void by_inputs(std::int64_t panel, std::int64_t groups) const noexcept {
    for (std::int64_t k0 = 0; k0 < a.k; k0 += kWideK)
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t at = panel + g * panels, next = g + 1 < groups ? k0 : k0 + kWideK;
        PanelSource::Place ahead;
        if (next < a.k)
          ahead = source.place_of(g + 1 < groups ? at + panels : panel, panels, next, depth(next));
        block(at, k0, {a.y + m0 * a.n + at * kLanes, a.n}, ahead, g == 0);
      }
  }
};

/// Many rows of x against `groups` groups of kWidePanels panels.
template <int panels>
void linear_wide(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel,
                 std::int64_t groups) noexcept {
  const WideProduct<panels> product{a, m0, rows};
  const bool far = a.k > kNearInputs;
  const bool whole = (panel + groups * panels) * kLanes <= a.n;  // else the sums of a row have no place in y
  if (far && groups > 1 && whole && a.residual != a.y)
    product.by_inputs(panel, groups);
  else
    product.by_groups(panel, groups, far);
}

}  // namespace
}  // namespace gpt::kernels
