// Register tiles: sums of some rows and of some stretches of 16 numbers side by side, panels of a matrix or keys or values.

namespace gpt::kernels {
namespace {

/// Calls f.template operator()<n>() for this n of 1 .. most.
template <int most, class F>
inline void with_count(std::int64_t n, F&& f) noexcept {
  if constexpr (most > 1) {
    if (n < most) return with_count<most - 1>(n, f);
  }
  f.template operator()<most>();
}

/// Calls f(s, r, vector, number) for the products of a step of `stretches` stretches and `rows` rows, whose vectors and numbers
/// load(s) and number(r) give. With many registers each of both is loaded once; with few, one stretch's vector at a time.
template <int stretches, int rows, class Load, class Number, class F>
[[gnu::always_inline]] inline void for_each_product(Load load, Number number, F f) noexcept {
  if constexpr (kManyRegisters) {
    decltype(load(0)) v[static_cast<unsigned>(stretches)];
#pragma GCC unroll 16
    for (int s = 0; s < stretches; ++s) v[s] = load(s);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const auto x = number(r);
#pragma GCC unroll 16
      for (int s = 0; s < stretches; ++s) f(s, r, v[s], x);
    }
  } else {
#pragma GCC unroll 16
    for (int s = 0; s < stretches; ++s) {
      const auto v = load(s);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) f(s, r, v, number(r));
    }
  }
}

}  // namespace
}  // namespace gpt::kernels
