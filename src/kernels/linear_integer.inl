// Products of quantized matrices with quantized activations (pack_rows.inl): x is rounded to 8 bits, one scale per row and span, of
// 64 inputs, or of 32 with groups of 32 or an asymmetric matrix. The integer product of a span is exact; spans follow one
// another in order:
//
//   sum = fma(float(sum over the span of q_x (q - zero)), scale * x_scale, sum),   y = sum
//
// The loops are the same for all; how a format's integers are multiplied (int8_*.inl, int4_fours.inl) is a `Product`: a vector holds
// the weights from the inputs of one word of x to 16 outputs.

namespace gpt::kernels {
namespace {

template <class Product>
inline constexpr std::int64_t kWordInputs = sizeof(Word) / sizeof(typename Product::Integer);

/// The numbers of a vector.
template <class Product>
inline constexpr std::int64_t kVectorElements = kWordInputs<Product>* kLanes;

inline void prefetch_step(const void* q, std::int64_t bytes) noexcept {
  const char* ahead = static_cast<const char*>(q) + kPrefetch;
  prefetch(ahead);
  if (bytes > 64) prefetch(ahead + 64);
}

/// Calls f.template operator()<i>() for the vectors of a step.
template <class Product, class F>
[[gnu::always_inline]] inline void for_each_vector(F f) noexcept {
  constexpr std::int64_t kVectors = kStep / kWordInputs<Product>;
  static_assert(kVectors == 2 || kVectors == 4);
  f.template operator()<0>();
  f.template operator()<1>();
  if constexpr (kVectors == 4) {
    f.template operator()<2>();
    f.template operator()<3>();
  }
}

/// A block of a panel, ready for many rows, and what its spans have.
template <class Product>
struct Block {
  alignas(64) typename Product::Element quanta[kBlockK * kLanes];
  alignas(64) float scales[kBlockSpans * kLanes];
  alignas(64) typename Product::Zeros zeros[kBlockSpans];

  void widen(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count) noexcept {
    load_scales(a, panel, k0, count, scales);
    for (std::int64_t k = 0, s = 0; k < count; k += a.span(), ++s)
      zeros[s] = Product::zeros(a, place_of(a, panel, k0 + k));
    const auto* q = Product::at(a, panel, k0);
    auto* to = quanta;
    for (std::int64_t i = 0; i < count; i += kStep, q += Product::kStepBytes) {
      for_each_vector<Product>([&]<int v>() noexcept {
        Product::put(to, Product::template vector<v>(q));
        to += kVectorElements<Product>;
      });
    }
  }
};

/// A tile of `rows` rows of x as it is packed, from an input that begins a span on.
template <class Product, int rows>
struct PackedTile {
  PackedTile(const LinearArgs& a, std::int64_t row, std::int64_t k0) noexcept
      : x(a.packed.x + (row * padded_inputs(a.k) + k0 * rows) / kWordInputs<Product> * kWordBytes) {
    const std::int64_t spans_before = row * a.spans() + k0 / a.span() * rows;
    scales = a.packed.scales + spans_before;
    minus_sums = a.packed.minus_sums + 2 * spans_before;
  }

  /// The numbers of row r of the next word.
  auto number(int r) const noexcept { return Product::number(x + r * kWordBytes); }
  void next_word() noexcept { x += rows * kWordBytes; }

  void begin_span(const typename Product::Zeros& zeros, typename Product::Sums* acc) const noexcept {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[r] = Product::begin(zeros, minus_sums + 2 * r);
  }
  void end_span(const F32x16& scale, const typename Product::Sums* acc, F32x16* sums) const noexcept {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      sums[r] = fma(to_float(Product::total(acc[r])), scale * broadcast(scales[r]), sums[r]);
  }
  void next_span() noexcept {
    scales += rows;
    minus_sums += 2 * rows;
  }

  static constexpr std::int64_t kWordBytes = sizeof(Word);
  const std::int8_t* x;
  const float* scales;
  const std::int16_t* minus_sums;
};

/// to[p][r][16] become the sums after `count` inputs more, for `rows` rows from `row` on and neighbouring panels, whose sums lie
/// `to_stride` numbers apart; those of a `first` block begin at 0. The next block is asked for span by span.
template <class Product, int rows, int panels>
GPT_ALONE void multiply_blocks(const LinearArgs& a, std::int64_t row, std::int64_t k0,
                               const Block<Product>* blocks, std::int64_t count, float* to,
                               std::int64_t to_stride, bool first, Asking& ahead) noexcept {
  constexpr std::int64_t kInputs = kWordInputs<Product>;
  const std::int64_t span = a.span();
  PackedTile<Product, rows> tile(a, row, k0);
  F32x16 sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      sums[p][r] = first ? broadcast(0.0f) : load(to + p * to_stride + r * kLanes);
  std::int64_t at = 0;  // in the blocks
  for (std::int64_t k = 0, s = 0; k < count; k += span, ++s, tile.next_span()) {
    ahead.next();
    typename Product::Sums acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) tile.begin_span(blocks[p].zeros[s], acc[p]);
    const std::int64_t words = (count - k < span ? count - k : span) / kInputs;
    for (std::int64_t i = 0; i < words; ++i, tile.next_word(), at += kVectorElements<Product>) {
      for_each_product<panels, rows>([&](int p) noexcept { return Product::get(blocks[p].quanta + at); },
                                     [&](int r) noexcept { return tile.number(r); },
                                     [&](int p, int r, const auto& v, const auto& x) noexcept {
                                       acc[p][r] = multiply_add(acc[p][r], v, x);
                                     });
    }
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) tile.end_span(load(blocks[p].scales + s * kLanes), acc[p], sums[p]);
  }
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(to + p * to_stride + r * kLanes, sums[p][r]);
}

/// The tile of `rows` rows from `row` on, few enough for registers, against `panels` panels side by side, widened in registers.
template <class Product, int rows, int panels>
GPT_ALONE void stream_panels(const LinearArgs& a, std::int64_t row, std::int64_t panel) noexcept {
  const std::int64_t k_padded = padded_inputs(a.k), span = a.span();
  const std::int64_t panel_stride = k_padded / kStep * Product::kStepBytes;
  F32x16 sums[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) sums[p][r] = broadcast(0.0f);
  const auto* q = Product::at(a, panel, 0);
  PackedTile<Product, rows> tile(a, row, 0);
  for (std::int64_t k = 0; k < a.k; k += span, tile.next_span()) {
    const std::int64_t end = k + span < k_padded ? k + span : k_padded;
    typename Product::Sums acc[static_cast<unsigned>(panels)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p) tile.begin_span(Product::zeros(a, place_of(a, panel + p, k)), acc[p]);
    for (std::int64_t i = k; i < end; i += kStep, q += Product::kStepBytes) {
#pragma GCC unroll 16
      for (int p = 0; p < panels; ++p) prefetch_step(q + p * panel_stride, Product::kStepBytes);
      for_each_vector<Product>([&]<int v>() noexcept {
        for_each_product<panels, rows>(
            [&](int p) noexcept { return Product::template vector<v>(q + p * panel_stride); },
            [&](int r) noexcept { return tile.number(r); },
            [&](int p, int r, const auto& w, const auto& x) noexcept {
              acc[p][r] = multiply_add(acc[p][r], w, x);
            });
        tile.next_word();
      });
    }
#pragma GCC unroll 16
    for (int p = 0; p < panels; ++p)
      tile.end_span(load_weights(a.scales, place_of(a, panel + p, k), kLanes), acc[p], sums[p]);
  }
  alignas(64) float of_panel[static_cast<unsigned>(rows) * kLanes];
#pragma GCC unroll 16
  for (int p = 0; p < panels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(of_panel + r * kLanes, sums[p][r]);
    finish_rows(a, of_panel, row, rows, panel + p);
  }
}

/// One tile against a range of panels.
template <class Product, int most = Product::kStreamRows>
void stream_tile(const LinearArgs& a, std::int64_t row, std::int64_t rows, std::int64_t panel_begin,
                 std::int64_t panel_end) noexcept {
  if constexpr (most > 1)
    if (rows < most) return stream_tile<Product, most - 1>(a, row, rows, panel_begin, panel_end);
  constexpr int together = streamed_panels(Product::kStreamSums, most);
  std::int64_t panel = panel_begin;
  for (; panel + together <= panel_end; panel += together)
    stream_panels<Product, most, together>(a, row, panel);
  if constexpr (together > 1)
    for (; panel < panel_end; ++panel) stream_panels<Product, most, 1>(a, row, panel);
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

/// So many rows that a block of panels is put side by side for them all.
constexpr bool are_many(std::int64_t rows) noexcept { return rows > 4 * kMicroRows; }

/// The rows of a register tile, at most.
constexpr std::int64_t integer_tile_rows(std::int64_t rows) noexcept {
  return are_many(rows) ? kWideRows : kMicroRows;
}

/// A block of rows against a range of panels: blocks of up to 256 inputs of a panel, or of some, are widened once for all rows.
template <class Product>
class BlockedRows {
 public:
  BlockedRows(const LinearArgs& args, std::int64_t first_row, std::int64_t row_count,
              std::int64_t end) noexcept
      : a(args), m0(first_row), rows(row_count), panel_end(end) {}

  /// `count` panels from `panel` on.
  void group(std::int64_t panel, std::int64_t count) noexcept {
    static_assert(kWidePanels == kTaskPanels || kWidePanels == 1);
    const bool wide = count == kWidePanels;
    for (std::int64_t k0 = 0; k0 == 0 || k0 < k_padded; k0 += kBlockK)
      for (std::int64_t p = 0; p < count; p += wide ? kWidePanels : 1)
        wide ? step<kWidePanels>(panel, p, k0, count) : step<1>(panel, p, k0, count);
  }

 private:
  static constexpr std::int64_t kSumsStride = kLinearRows * kLanes;

  /// The block of panels panel + p .. panel + p + together from k0 on.
  template <int together>
  void step(std::int64_t panel, std::int64_t p, std::int64_t k0, std::int64_t count) noexcept {
    const std::int64_t inputs = k_padded - k0 < kBlockK ? k_padded - k0 : kBlockK;
    const Stage stage{k0 == 0, k0 + inputs == k_padded};
    for (int i = 0; i < together; ++i) blocks[i].widen(a, panel + p + i, k0, inputs);
    Asking ahead(after<together>(panel, p, k0, count), tiles, inputs, a.span());
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t r = tile_begin(rows, t, most), tile = tile_begin(rows, t + 1, most) - r;
      float* to = sums[p] + r * kLanes;
      if (stage.last)
        for (int i = 0; i < together; ++i) expect_rows(a, m0 + r, tile, panel + p + i);
      with_count<together == 1 ? kMicroRows : kWideRows>(tile, [&]<int n>() noexcept {
        multiply_blocks<Product, n, together>(a, m0 + r, k0, blocks, inputs, to, kSumsStride, stage.first,
                                              ahead);
      });
      if (stage.last)
        for (int i = 0; i < together; ++i) finish_rows(a, to + i * kSumsStride, m0 + r, tile, panel + p + i);
    }
  }

  /// What is widened after that block.
  template <int together>
  Place after(std::int64_t panel, std::int64_t p, std::int64_t k0, std::int64_t count) const noexcept {
    p += together;
    if (p == count) {
      p = 0;
      k0 += kBlockK;
    }
    if (k0 >= k_padded) {
      panel += count;
      k0 = 0;
    }
    if (panel + p + together > panel_end) return {};
    const std::int64_t inputs = k_padded - k0 < kBlockK ? k_padded - k0 : kBlockK;
    constexpr std::int64_t kBytes = Product::kStepBytes;
    return {static_cast<const char*>(static_cast<const void*>(Product::at(a, panel + p, k0))),
            k_padded / kStep * kBytes, together, inputs / kStep * kBytes};
  }

  const LinearArgs& a;
  const std::int64_t m0, rows, panel_end;
  const std::int64_t most = integer_tile_rows(a.m), tiles = tiles_of(rows, most);
  const std::int64_t k_padded = padded_inputs(a.k);
  alignas(64) float sums[kTaskPanels][kSumsStride];
  Block<Product> blocks[kWidePanels];
};

template <class Product>
void integer_blocked(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                     std::int64_t panel_end) noexcept {
  const std::int64_t group = are_many(a.m) ? kTaskPanels : 1;
  BlockedRows<Product> blocked(a, m0, rows, panel_end);
  for (std::int64_t p = panel_begin; p < panel_end; p += group)
    blocked.group(p, panel_end - p < group ? panel_end - p : group);
}

template <class Product>
void integer_typed(const LinearArgs& a, std::int64_t m0, std::int64_t rows, std::int64_t panel_begin,
                   std::int64_t panel_end) noexcept {
  if (streams<Product>(a.m)) return integer_streamed<Product>(a, panel_begin, panel_end);
  integer_blocked<Product>(a, m0, rows, panel_begin, panel_end);
}

void linear_integer(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const bool int8 = a.format == ops::WeightFormat::int8;
  for_each_block(a, begin, end, int8 ? integer_typed<Int8> : integer_typed<Int4>);
}

void pack_rows(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const bool int8 = a.format == ops::WeightFormat::int8;
  for_each_tile_row(a, begin, end, integer_tile_rows(a.m), [&](const TileRow& at) noexcept {
    int8 ? pack_row<Int8::Integer>(a, at) : pack_row<Int4::Integer>(a, at);
  });
}

constexpr IntegerKernels make_integer_kernels(const char* name) noexcept {
  return {.name = name, .pack_rows = pack_rows, .linear = linear_integer};
}

}  // namespace
}  // namespace gpt::kernels
