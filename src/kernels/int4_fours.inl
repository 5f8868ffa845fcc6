// Products with int4 weights of four inputs at a time. The sums of a span begin at -zero times the sums of x, in the same lanes as
// its products. Where sums have 16 bits they may wrap on the way; they end within them: 32 products of at most 8 and 127, or 16 of
// 15 and 127.

namespace gpt::kernels {
namespace {

struct Int4 : Quanta<ops::WeightFormat::int4> {
  // The nibbles need registers, too.
  static constexpr int kStreamRows = kMicroRows * 2 / 3, kStreamSums = kStreamRows;
  using Integer = std::int8_t;   // of x
  using Element = std::uint8_t;  // of a widened block: [count / 4][16][4]
  using Vector = U8x64;
  using Sums = FourSums;
  using Zeros = I16x32;

  template <int i>
  static Vector vector(const std::uint8_t* step) noexcept {
    const U8x64 both = load_u8x64(step);
    return i == 0 ? low_nibbles(both) : high_nibbles(both);
  }
  static void put(Element* to, const Vector& v) noexcept { store(to, v); }
  static Vector get(const Element* from) noexcept { return load_u8x64(from); }
  static I8x64 number(const std::int8_t* word) noexcept { return broadcast_four(word); }

  static Zeros zeros(const Matrix& a, std::int64_t place) noexcept { return pairs_of(zero(a, place)); }
  static Sums begin(const Zeros& zeros, const std::int16_t* minus_sums) noexcept {
    return begin_fours(zeros, broadcast_pair(minus_sums));
  }
  static I32x16 total(const Sums& sums) noexcept { return sum_fours(sums); }
};

}  // namespace
}  // namespace gpt::kernels
