// Register tiles: sums of some rows and of vectors side by side: of panels of a matrix, keys or values.

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

/// Calls f(i, r, vector, number) for the products of a step of `vectors` vectors and `rows` rows, which load(i) and number(r) give. With
/// many registers each of both is loaded once; with few, one vector at a time.
template <int vectors, int rows, class Load, class Number, class F>
[[gnu::always_inline]] inline void for_each_product(Load load, Number number, F f) noexcept {
  if constexpr (kManyRegisters) {
    decltype(load(0)) v[static_cast<unsigned>(vectors)];
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i) v[i] = load(i);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const auto x = number(r);
#pragma GCC unroll 16
      for (int i = 0; i < vectors; ++i) f(i, r, v[i], x);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i) {
      const auto v = load(i);
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) f(i, r, v, number(r));
    }
  }
}

}  // namespace
}  // namespace gpt::kernels
