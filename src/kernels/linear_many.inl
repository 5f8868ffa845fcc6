// The float matrix product of many rows: register tiles of some rows and panels, over blocks of panels that are copied once for
// all rows where they do not lie as panels of floats.

namespace gpt::kernels {
namespace {

/// Where a tile's sums wait: those of a row lie together, the next row's `stride` numbers further.
struct Sums {
  float* data;
  std::int64_t stride;
};

/// Rows of x and a block of neighbouring panels, [count][16] each.
struct TileOperands {
  const float* x;
  std::int64_t x_stride;
  const float* w;
  std::int64_t w_stride;  // from panel to panel
  std::int64_t count;     // of inputs
};

/// The place in y of a tile whose sums are done, where they may go there from registers: no activation, no missing columns.
struct TilePlace {
  const LinearArgs& a;
  std::int64_t m0, n0;
};

/// Tiles whose rows of x meet one panel after another while they are near.
inline constexpr std::int64_t kNearTiles = 16;

/// sums[r][p][16] += x[r][0 .. count) times w[p][count][16]; the sums of a `first` block begin at 0. With a place, they become
/// y instead of going back.
template <int rows, int panels>
GPT_ALONE void multiply_tile(const TileOperands& of, const Sums& sums, bool first, const TilePlace* place,
                             Asking& ahead) noexcept {
  F32x16 acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      acc[p][r] = first ? broadcast(0.0f) : load(sums.data + r * sums.stride + p * kLanes);
  const float *x = of.x, *w = of.w;
  const std::int64_t x_stride = of.x_stride, w_stride = of.w_stride, count = of.count;
  for (std::int64_t k = 0; k < count;) {
    const std::int64_t end = k + ahead.inputs < count ? k + ahead.inputs : count;
    ahead.next();
    for (; k < end; ++k)
      for_each_product<panels, rows>(
          [&](int p) noexcept { return load(w + p * w_stride + k * kLanes); },
          [&](int r) noexcept { return broadcast(x[r * x_stride + k]); },
          [&](int p, int r, const F32x16& v, const F32x16& b) noexcept { acc[p][r] = fma(b, v, acc[p][r]); });
  }
  if (place != nullptr) {
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) {
      const Finish<ops::Activation::kNone, true> finish(place->a, place->n0 + p * kLanes, place->a.n);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) finish.row(place->m0 + r, acc[p][r]);
    }
    return;
  }
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(sums.data + r * sums.stride + p * kLanes, acc[p][r]);
}

/// sums[r][16] += x[r][0 .. count) times w[count][16] for 1 .. kMicroRows rows.
inline void multiply_rows(std::int64_t rows, const float* x, std::int64_t x_stride, const float* w,
                          std::int64_t count, float* sums) noexcept {
  Asking nothing;
  with_count<kMicroRows>(rows, [&]<int n>() noexcept {
    multiply_tile<n, 1>({x, x_stride, w, 0, count}, {sums, kLanes}, false, nullptr, nothing);
  });
}

/// Rows m0 .. m0 + rows of a product.
struct ManyRows {
  const LinearArgs& a;
  std::int64_t m0, rows;
  PanelSource source{a};

  /// A block of inputs after another, of all these panels where their sums wait in y: so that rows of x which leave the caches
  /// are read once. Few rows rather read a group of panels to its end.
  void panels(std::int64_t begin, std::int64_t end) const noexcept {
    const std::int64_t together = a.sums_in_y() && a.m > kFewRows ? end - begin : kTaskPanels;
    for (std::int64_t p0 = begin; p0 < end; p0 += together)
      for (std::int64_t d = 0; d < a.depths(); ++d)
        for (std::int64_t p = p0; p < p0 + together && p < end; p += kTaskPanels) {
          const std::int64_t next = p + kTaskPanels;
          if (next < p0 + together && next < end)
            group(at(p, end, d), at(next, end, d));
          else if (d + 1 < a.depths())
            group(at(p, end, d), at(p0, end, d + 1));
          else
            group(at(p, end, d), at(next, a.panels(), 0));
        }
  }

 private:
  struct Block {
    std::int64_t panel = 0, panels = 0, k0 = 0, count = 0;
    Stage stage{};
    const float* w = nullptr;
    std::int64_t stride = 0;  // from panel to panel
  };

  /// Inputs of block d, of the panels from `panel` on.
  Block at(std::int64_t panel, std::int64_t end, std::int64_t d) const noexcept {
    Block block;
    block.panel = panel;
    block.panels = end - panel < kTaskPanels ? end - panel : kTaskPanels;
    block.k0 = a.depth_begin(d);
    block.count = a.depth_begin(d + 1) - block.k0;
    block.stage = {d == 0, d + 1 == a.depths()};
    return block;
  }

  void group(Block block, const Block& next) const noexcept {
    put_in_panels(block);
    Place ahead;
    // The processor itself fetches what lies in order.
    if (next.panels > 0 && !a.in_place())
      ahead = source.place_of(next.panel, next.panels, next.k0, next.count);
    static_assert(kWidePanels == kTaskPanels || kWidePanels == 1);
    if (block.panels == kWidePanels) return multiply<kWideRows, kWidePanels>(block, ahead);
    multiply<kMicroRows, 1>(block, ahead);
  }

  void put_in_panels(Block& block) const noexcept {
    block.w = source.in_place(block.panel, block.k0);
    block.stride = a.k * kLanes;
    if (block.w != nullptr) return;
    block.w = a.space.copies;
    block.stride = block.count * kLanes;
    for (std::int64_t p = 0; p < block.panels; ++p)
      source.copy(block.panel + p, block.k0, block.count, a.space.copies + p * block.stride);
  }

  /// A block, `together` panels at a time, of which a stretch of rows meets one after another while it is near.
  template <int most, int together>
  void multiply(const Block& block, const Place& next) const noexcept {
    const std::int64_t tiles = tiles_of(rows, most), steps = block.panels / together;
    Asking ahead(next, tiles * steps, block.count,
                 a.m <= kFewRows ? Asking::kFewInputs : Asking::kManyInputs);
    for (std::int64_t t0 = 0; t0 < tiles; t0 += kNearTiles) {
      const std::int64_t end = t0 + kNearTiles < tiles ? t0 + kNearTiles : tiles;
      for (std::int64_t p = 0; p < steps; ++p)
        for (std::int64_t t = t0; t < end; ++t) {
          const std::int64_t r = tile_begin(rows, t, most);
          multiply_at<most, together>(block, p * together, r, tile_begin(rows, t + 1, most) - r, ahead);
        }
    }
  }

  /// The tile of rows r .. r + tile and of the block's panels from p on.
  template <int most, int together>
  void multiply_at(const Block& block, std::int64_t p, std::int64_t r, std::int64_t tile,
                   Asking& ahead) const noexcept {
    const std::int64_t panel = block.panel + p, m = m0 + r;
    const bool whole = (panel + together) * kLanes <= a.n;
    const TilePlace place{a, m, panel * kLanes};
    const bool at_once = block.stage.last && whole && a.activation == ops::Activation::kNone;
    alignas(64) float of_tile[static_cast<unsigned>(most * together * kLanes)];
    Sums sums{of_tile, together * kLanes};
    if (!(block.stage.first && block.stage.last)) {
      if (a.sums_in_y())
        sums = {a.y + m * a.n + panel * kLanes, a.n};
      else
        sums = {a.space.sums + (r * kTaskPanels + p) * kLanes, kTaskPanels * kLanes};
    }
    if (block.stage.last)
      for (int i = 0; i < together; ++i) expect_rows(a, m, tile, panel + i);
    const TileOperands of{a.x + m * a.x_stride + block.k0, a.x_stride, block.w + p * block.stride,
                          block.stride, block.count};
    with_count<most>(tile, [&]<int n>() noexcept {
      multiply_tile<n, together>(of, sums, block.stage.first, at_once ? &place : nullptr, ahead);
    });
    if (block.stage.last && !at_once)
      for (int i = 0; i < together; ++i)
        finish_rows(a, sums.data + i * kLanes, m, tile, panel + i, sums.stride);
  }
};

void linear_many(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                 std::int64_t panel_end) noexcept {
  ManyRows{a, m0, rows}.panels(panel_begin, panel_end);
}

}  // namespace
}  // namespace gpt::kernels
