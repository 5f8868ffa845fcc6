// Rounds the rows of x to integers for linear_integer.inl, and puts them into its register tiles in the order in which it
// reads them.

namespace gpt::kernels {
namespace {

/// The tiles of a block of `rows` rows, of at most `most` each and as even as possible: with the few left over in a tile of their
/// own, the pipelines would idle.
constexpr std::int64_t tiles_of(std::int64_t rows, std::int64_t most = kMicroRows) noexcept {
  return (rows + most - 1) / most;
}
constexpr std::int64_t tile_begin(std::int64_t rows, std::int64_t t,
                                  std::int64_t most = kMicroRows) noexcept {
  return rows * t / tiles_of(rows, most);
}

/// Where the numbers of a row go: element i is at data[i * rows], data being its place in the first element of its tile.
template <class Element>
struct Column {
  Element* data;
  std::int64_t rows;

  Element& operator[](std::int64_t i) const noexcept { return data[i * rows]; }
};

/// A row's place in its tile.
struct TileRow {
  std::int64_t tile;  // the tile's first row
  std::int64_t rows;  // of the tile
  std::int64_t row;

  /// Of an array whose tiles are [elements, rows].
  template <class Element>
  Column<Element> column(void* array, std::int64_t elements) const noexcept {
    return {static_cast<Element*>(array) + tile * elements + (row - tile), rows};
  }
};

constexpr std::int64_t kStep = ops::kQuantizedStep;

constexpr std::int64_t padded_inputs(std::int64_t k) noexcept { return (k + kStep - 1) / kStep * kStep; }

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

/// The word of several integers.
using Word = std::uint32_t;

/// x times the factor; 0 where that is 0, whatever x is.
inline F32x16 scaled(const float* x, int lanes, float factor) noexcept {
  return factor == 0.0f ? broadcast(0.0f) : load_first(x, lanes) * broadcast(factor);
}

/// rint(x * factor), followed by zeros up to a whole step, as words of neighbouring integers.
template <class Integer>
inline void pack_rounded(const float* x, std::int64_t count, float factor, const Column<Word>& to) noexcept {
  constexpr int kPerWord = static_cast<int>(sizeof(Word) / sizeof(Integer));
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const int lanes = lanes_left(i, count);
    Integer rounded[kLanes];
    store_rounded(rounded, scaled(x + i, lanes, factor));
    Word words[static_cast<unsigned>(kLanes / kPerWord)];
    __builtin_memcpy(words, rounded, sizeof words);
    for (std::int64_t j = 0; j < padded_inputs(lanes) / kPerWord; ++j) to[i / kPerWord + j] = words[j];
  }
}

inline void pack_16_bits(const LinearArgs& a, const TileRow& at) noexcept {
  const float* x = a.x + at.row * a.k;
  const RowScale s = row_scale(x, a.k, 32767.0f);
  a.packed.scales[at.row] = s.scale;
  pack_rounded<std::int16_t>(x, a.k, s.factor, at.column<Word>(a.packed.x16, padded_inputs(a.k) / 2));
}

inline void pack_8_bits(const LinearArgs& a, const TileRow& at) noexcept {
  const std::int64_t span = a.span(), spans = a.spans();
  const Column<float> scales = at.column<float>(a.packed.scales, spans);
  const Column<Word> sums = at.column<Word>(a.packed.minus_sums, spans);
  const Column<Word> fours = at.column<Word>(a.packed.x8, padded_inputs(a.k) / 4);
  for (std::int64_t s = 0; s < spans; ++s) {
    const std::int64_t k = s * span, count = a.k - k < span ? a.k - k : span;
    const float* x = a.x + at.row * a.k + k;
    const RowScale scale = row_scale(x, count, 127.0f);
    scales[s] = scale.scale;
    pack_rounded<std::int8_t>(x, count, scale.factor, {&fours[k / 4], fours.rows});
    std::int16_t minus[2] = {0, 0};
    for (std::int64_t i = 0; i < padded_inputs(count) / 4; ++i) {
      std::int8_t q[4];
      __builtin_memcpy(q, &fours[k / 4 + i], sizeof q);
      minus[0] = static_cast<std::int16_t>(minus[0] - q[0] - q[1]);
      minus[1] = static_cast<std::int16_t>(minus[1] - q[2] - q[3]);
    }
    __builtin_memcpy(&sums[s], minus, sizeof minus);
  }
}

/// Calls f(row) for the rows begin .. end, in tiles of at most `most`.
template <class F>
inline void for_each_tile_row(const LinearArgs& a, std::int64_t begin, std::int64_t end, std::int64_t most,
                              F f) noexcept {
  for (std::int64_t block = 0; block < a.blocks(); ++block) {
    const std::int64_t m0 = a.block_begin(block), rows = a.block_begin(block + 1) - m0;
    if (m0 + rows <= begin || m0 >= end) continue;
    for (std::int64_t t = 0; t < tiles_of(rows, most); ++t) {
      const std::int64_t first = m0 + tile_begin(rows, t, most), last = m0 + tile_begin(rows, t + 1, most);
      for (std::int64_t row = first > begin ? first : begin; row < last && row < end; ++row)
        f(TileRow{first, last - first, row});
    }
  }
}

void pack_rows(const LinearArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  for_each_tile_row(a, begin, end, kMicroRows, [&](const TileRow& at) noexcept {
    a.format == ops::WeightFormat::int8 ? pack_16_bits(a, at) : pack_8_bits(a, at);
  });
}

}  // namespace
}  // namespace gpt::kernels
