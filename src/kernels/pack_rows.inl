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

/// What the values of a span have in common: the factor that makes them integers up to 127 and the scale that undoes it. A span
/// that is not finite gets the scale NaN, which shows in all its results.
struct RowScale {
  float scale, factor;
};

inline RowScale row_scale(const float* x, std::int64_t count) noexcept {
  constexpr float most = 127.0f;
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

/// rint(x * factor), followed by zeros up to a whole step, as words of neighbouring integers. Returns the sums of the integers in
/// each lane.
template <class Integer>
inline F32x16 pack_rounded(const float* x, std::int64_t count, float factor,
                           const Column<Word>& to) noexcept {
  constexpr int kPerWord = static_cast<int>(sizeof(Word) / sizeof(Integer));
  const F32x16 to_integer = broadcast(0x1.8p23f);  // adding it leaves the nearest integer in the low bits
  F32x16 sums = broadcast(0.0f);
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const int lanes = lanes_left(i, count);
    const F32x16 rounded = scaled(x + i, lanes, factor) + to_integer - to_integer;
    sums = sums + rounded;
    Integer integers[kLanes];
    store_rounded(integers, rounded);
    Word words[static_cast<unsigned>(kLanes / kPerWord)];
    __builtin_memcpy(words, integers, sizeof words);
    if (lanes == kLanes) {
#pragma GCC unroll 8
      for (int j = 0; j < kLanes / kPerWord; ++j) to[i / kPerWord + j] = words[j];
    } else {
      for (std::int64_t j = 0; j < padded_inputs(lanes) / kPerWord; ++j) to[i / kPerWord + j] = words[j];
    }
  }
  return sums;
}

/// A row as integers of 8 bits, in words of `Integer`s, with the scales of its spans. Beside words of four, minus the sums of each
/// span's first halves of words and of the others.
template <class Integer>
inline void pack_row(const LinearArgs& a, const TileRow& at) noexcept {
  constexpr std::int64_t kPerWord = sizeof(Word) / sizeof(Integer);
  const std::int64_t span = a.span(), spans = a.spans();
  const Column<float> scales = at.column<float>(a.packed.scales, spans);
  const Column<Word> words = at.column<Word>(a.packed.x, padded_inputs(a.k) / kPerWord);
  const Column<Word> sums = at.column<Word>(a.packed.minus_sums, spans);
  for (std::int64_t s = 0; s < spans; ++s) {
    const std::int64_t k = s * span, count = a.k - k < span ? a.k - k : span;
    const float* x = a.x + at.row * a.k + k;
    const RowScale scale = row_scale(x, count);
    scales[s] = scale.scale;
    const Column<Word> to{&words[k / kPerWord], words.rows};
    const F32x16 of_lanes = pack_rounded<Integer>(x, count, scale.factor, to);
    if constexpr (kPerWord == 4) {
      float lane[kLanes];
      store(lane, of_lanes);
      const auto minus_sum = [&](int first) noexcept {
        float sum = 0;
        for (int i = first; i < kLanes; i += 4) sum += lane[i] + lane[i + 1];
        return static_cast<std::int16_t>(-sum);
      };
      const std::int16_t minus[2] = {minus_sum(0), minus_sum(2)};
      __builtin_memcpy(&sums[s], minus, sizeof minus);
    }
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

}  // namespace
}  // namespace gpt::kernels
