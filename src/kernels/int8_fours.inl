// Products with int8 weights of four inputs at a time, in VNNI: it multiplies bytes without a sign by bytes with one. So the matrix
// has 128 added, and the sums begin at -128 times the sums of x.

namespace gpt::kernels {
namespace {

struct Int8 : Quanta<ops::WeightFormat::int8> {
  static constexpr int kStreamRows = kMicroRows, kStreamSums = kIntegerSums;
  using Integer = std::int8_t;   // of x
  using Element = std::uint8_t;  // of a widened block: [count / 4][16][4]
  using Vector = U8x64;
  using Sums = FourSums;
  struct Zeros {};

  template <int i>
  static Vector vector(const std::int8_t* step) noexcept {
    return plus_128(fours_of_pairs(step + i * 4 * kLanes));
  }
  static void put(Element* to, const Vector& v) noexcept { store(to, v); }
  static Vector get(const Element* from) noexcept { return load_u8x64(from); }
  static I8x64 number(const std::int8_t* word) noexcept { return broadcast_four(word); }

  static Zeros zeros(const Matrix&, std::int64_t) noexcept { return {}; }
  static Sums begin(const Zeros&, const std::int16_t* minus_sums) noexcept {
    return begin_fours(pairs_of(broadcast_i32(128)), broadcast_pair(minus_sums));
  }
  static I32x16 total(const Sums& sums) noexcept { return sum_fours(sums); }
};

}  // namespace
}  // namespace gpt::kernels
