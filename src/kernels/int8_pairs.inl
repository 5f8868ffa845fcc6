// Products with int8 weights of two inputs at a time, both as 16 bits. Bytes would need 32-bit sums as well, and 16 bits cost no
// more where there is no VNNI.

namespace gpt::kernels {
namespace {

struct Int8 : Quanta<ops::WeightFormat::int8> {
  static constexpr int kStreamRows = kMicroRows, kStreamSums = kIntegerSums;
  using Integer = std::int16_t;  // of x
  using Element = std::int16_t;  // of a widened block: [count / 2][16][2]
  using Vector = I16x32;
  using Sums = I32x16;
  struct Zeros {};

  template <int i>
  static Vector vector(const std::int8_t* step) noexcept {
    return widen_i8(step + i * 2 * kLanes);
  }
  static void put(Element* to, const Vector& v) noexcept { store_i16(to, v); }
  static Vector get(const Element* from) noexcept { return load_i16(from); }
  static I16x32 number(const std::int8_t* word) noexcept { return broadcast_pair(word); }

  static Zeros zeros(const Matrix&, std::int64_t) noexcept { return {}; }
  static Sums begin(const Zeros&, const std::int16_t*) noexcept { return broadcast_i32(0); }
  static I32x16 total(const Sums& sums) noexcept { return sums; }
};

}  // namespace
}  // namespace gpt::kernels
