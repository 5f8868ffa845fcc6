// Where the integers of quantized matrices lie, with their scales and zero points.

namespace gpt::kernels {
namespace {

/// The scales or zero points of a panel's group begin here.
inline std::int64_t group_place(const Matrix& a, std::int64_t panel, std::int64_t group) noexcept {
  return (panel * a.groups() + (a.group_size == 0 ? 0 : group)) * kLanes;
}

/// Those of the group of input k.
inline std::int64_t place_of(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
  // A group's size is a power of two, and a division would take as long as many products.
  return group_place(
      a, panel, a.group_size == 0 ? 0 : k >> __builtin_ctzll(static_cast<unsigned long long>(a.group_size)));
}

/// The spans that a block of inputs has at most.
inline constexpr std::int64_t kBlockSpans = kBlockK / 32;

/// The scales of inputs k0 .. k0 + count of a panel, [spans, 16].
inline void load_scales(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                        float* to) noexcept {
  for (std::int64_t k = k0; k < k0 + count; k += a.span(), to += kLanes)
    store(to, load_weights(a.scales, place_of(a, panel, k), kLanes));
}

template <ops::WeightFormat format>
struct Quanta;

/// A step of 8 inputs is q [4][16][2]: inputs (2 i, 2 i + 1) of 16 outputs side by side.
template <>
struct Quanta<ops::WeightFormat::int8> {
  static constexpr std::int64_t kStepBytes = 128;
  static const std::int8_t* at(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
    return static_cast<const std::int8_t*>(a.weight) + (panel * padded_inputs(a.k) + k) * kLanes;
  }
  /// Calls f(i, q of the step's input i).
  template <class F>
  static void inputs(const std::int8_t* q, F f) noexcept {
    for (int pair = 0; pair < 4; ++pair) {
      const I16x32 both = widen_i8(q + pair * 2 * kLanes);
      f(2 * pair, even_lanes(both));
      f(2 * pair + 1, odd_lanes(both));
    }
  }
  static I32x16 zero(const Matrix&, std::int64_t) noexcept { return broadcast_i32(0); }
};

/// A step of 8 inputs is bytes [16][4]: inputs 0 to 3 of 16 outputs in the low nibbles, 4 to 7 in the high ones.
template <>
struct Quanta<ops::WeightFormat::int4> {
  static constexpr std::int64_t kStepBytes = 64;
  static const std::uint8_t* at(const Matrix& a, std::int64_t panel, std::int64_t k) noexcept {
    return static_cast<const std::uint8_t*>(a.weight) + (panel * padded_inputs(a.k) + k) / kStep * kStepBytes;
  }
  template <class F>
  static void inputs(const std::uint8_t* q, F f) noexcept {
    const I32x16 fours = load_i32(q);
    f(0, nibble<0>(fours));
    f(1, nibble<2>(fours));
    f(2, nibble<4>(fours));
    f(3, nibble<6>(fours));
    f(4, nibble<1>(fours));
    f(5, nibble<3>(fours));
    f(6, nibble<5>(fours));
    f(7, nibble<7>(fours));
  }
  static I32x16 zero(const Matrix& a, std::int64_t place) noexcept {
    return a.zero_points == nullptr ? broadcast_i32(8) : load_u8(a.zero_points + place);
  }
};

}  // namespace
}  // namespace gpt::kernels
