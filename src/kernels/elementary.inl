// Elementary functions on F32x16, and the reductions over a row. Polynomials are minimax fits; every step is an IEEE-exact
// operation, so that all instruction sets agree.

namespace gpt::kernels {
namespace {

/// e^x within 2 ulp; exactly 0 below -87.33 (where the result would be subnormal), infinity above 88.37.
inline F32x16 exp(const F32x16& x) noexcept {
  const F32x16 lowest = broadcast(-87.33f), highest = broadcast(88.37f);
  const F32x16 clamped = min(highest, max(lowest, x));  // in this order NaN stays
  const F32x16 to_integer = broadcast(0x1.8p23f);  // adding it leaves the nearest integer in the low bits
  const F32x16 shifted = fma(clamped, broadcast(0x1.715476p+0f), to_integer);
  const F32x16 n = shifted - to_integer;
  F32x16 r = fma(n, broadcast(-0x1.62e400p-1f), clamped);  // ln 2 in two parts; |r| <= ln 2 / 2
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);
  F32x16 q = broadcast(0x1.6db426p-10f);  // (e^r - 1 - r) / r^2
  q = fma(q, r, broadcast(0x1.123b56p-7f));
  q = fma(q, r, broadcast(0x1.55545ep-5f));
  q = fma(q, r, broadcast(0x1.55548ep-3f));
  q = fma(q, r, broadcast(0.5f));
  const F32x16 one = broadcast(1.0f);
  const F32x16 p = fma(q * r, r, r) + one;
  const F32x16 y =
      select_less(abs(r), one, add_exponent(p, shifted), x);  // NaN: no comparison holds, x itself
  const F32x16 y_low = select_less(x, lowest, broadcast(0.0f), y);
  return select_less(highest, x, broadcast(__builtin_inff()), y_low);
}

/// x / (1 + e^-z) = x * sigmoid(z)
inline F32x16 times_sigmoid(const F32x16& x, const F32x16& z) noexcept {
  return x / (broadcast(1.0f) + exp(broadcast(0.0f) - z));
}

inline F32x16 tanh(const F32x16& x) noexcept {
  const F32x16 a = abs(x);
  const F32x16 s = x * x;
  F32x16 p = broadcast(-0x1.76abf6p-8f);  // |x| < 0.625: (tanh x - x) / x^3
  p = fma(p, s, broadcast(0x1.5256cep-6f));
  p = fma(p, s, broadcast(-0x1.b84448p-5f));
  p = fma(p, s, broadcast(0x1.110768p-3f));
  p = fma(p, s, broadcast(-0x1.555534p-2f));
  const F32x16 small = fma(p * s, x, x);
  const F32x16 one = broadcast(1.0f), two = broadcast(2.0f);
  const F32x16 large = one - two / (exp(a + a) + one);
  return select_less(a, broadcast(0.625f), small, with_sign_of(large, x));
}

inline F32x16 erf(const F32x16& x) noexcept {
  const F32x16 a = abs(x);
  const F32x16 s = x * x;
  F32x16 p = broadcast(0x1.4ae4c6p-14f);  // |x| < 1: erf x / x - 1
  p = fma(p, s, broadcast(-0x1.a485e8p-11f));
  p = fma(p, s, broadcast(0x1.5419f4p-8f));
  p = fma(p, s, broadcast(-0x1.b7fbb4p-6f));
  p = fma(p, s, broadcast(0x1.ce2d20p-4f));
  p = fma(p, s, broadcast(-0x1.81273ep-2f));
  p = fma(p, s, broadcast(0x1.06eba8p-3f));
  const F32x16 small = fma(p, x, x);
  const F32x16 t = min(broadcast(4.0f), a);  // erfc 4 < 2^-25: erf is 1 from there on
  F32x16 q = broadcast(-0x1.6bd850p-16f);    // 1 <= t <= 4: log erfc t
  q = fma(q, t, broadcast(0x1.cec654p-12f));
  q = fma(q, t, broadcast(-0x1.138cd8p-8f));
  q = fma(q, t, broadcast(0x1.9d0318p-6f));
  q = fma(q, t, broadcast(-0x1.bc151ep-4f));
  q = fma(q, t, broadcast(-0x1.443566p-1f));
  q = fma(q, t, broadcast(-0x1.212c0ep+0f));
  q = fma(q, t, broadcast(0x1.8a5954p-13f));
  const F32x16 large = broadcast(1.0f) - exp(q);
  return select_less(a, broadcast(1.0f), small, with_sign_of(large, x));
}

// An innermost loop stays a function of its own: inlined into a larger one, its sums lose their registers.
#define GPT_ALONE [[gnu::noinline]]

/// Asks for the cache line of p, which need not be a valid address.
inline void prefetch(const void* p) noexcept { __builtin_prefetch(p); }
/// The same, into the second-level cache.
inline void prefetch_far(const void* p) noexcept { __builtin_prefetch(p, 0, 2); }
/// The same for a line that will be written.
inline void prefetch_to_write(const void* p) noexcept { __builtin_prefetch(p, 1); }

/// The first n elements at p (0 < n <= 16), the other lanes 0.
template <class T>
inline void copy_elements(T* to, const T* from, int n) noexcept {
  for (int i = 0; i < n; ++i) to[i] = from[i];
}
inline F32x16 load_first(const float* p, int n) noexcept {
  if (n >= kLanes) return load(p);
  float padded[kLanes] = {};
  copy_elements(padded, p, n);
  return load(padded);
}
inline void store_first(float* p, const F32x16& v, int n) noexcept {
  if (n >= kLanes) return store(p, v);
  float padded[kLanes];
  store(padded, v);
  copy_elements(p, padded, n);
}

/// Weights of one element type, widened on loading.
template <DType dtype>
struct Loader;
template <>
struct Loader<DType::f32> {
  using Element = float;
  static F32x16 load(const float* p) noexcept { return kernels::load(p); }
};
template <>
struct Loader<DType::bf16> {
  using Element = std::uint16_t;
  static F32x16 load(const std::uint16_t* p) noexcept { return load_bf16(p); }
};
template <>
struct Loader<DType::f16> {
  using Element = std::uint16_t;
  static F32x16 load(const std::uint16_t* p) noexcept { return load_f16(p); }
};
template <DType dtype>
inline F32x16 load_weights(const typename Loader<dtype>::Element* p, int n) noexcept {
  if (n >= kLanes) return Loader<dtype>::load(p);
  typename Loader<dtype>::Element padded[kLanes] = {};
  copy_elements(padded, p, n);
  return Loader<dtype>::load(padded);
}
inline F32x16 load_weights(const Weights& w, std::int64_t index, int n) noexcept {
  switch (w.dtype) {
    case DType::bf16: return load_weights<DType::bf16>(static_cast<const std::uint16_t*>(w.data) + index, n);
    case DType::f16: return load_weights<DType::f16>(static_cast<const std::uint16_t*>(w.data) + index, n);
    default: return load_weights<DType::f32>(static_cast<const float*>(w.data) + index, n);
  }
}

inline int lanes_left(std::int64_t index, std::int64_t end) noexcept {
  return static_cast<int>(end - index < kLanes ? end - index : kLanes);
}

/// sum of term(i, lanes) over i = 0, 16, 32, ... < n, where term gives 0 in lanes past the end. Lane j takes elements
/// j, j + 16, ...; every 4096 elements the lanes are added by the fixed tree, and those sums in order in double.
template <class Term>
inline double sum_row(std::int64_t n, Term term) noexcept {
  constexpr std::int64_t kBlock = 4096;
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = begin + kBlock < n ? begin + kBlock : n;
    F32x16 sum = broadcast(0.0f);
    for (std::int64_t i = begin; i < end; i += kLanes) sum = sum + term(i, lanes_left(i, end));
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

inline float max_of_row(const float* x, std::int64_t n) noexcept {
  const F32x16 lowest = broadcast(-__builtin_inff());
  F32x16 m = lowest;
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int lanes = lanes_left(i, n);
    m = max(m, first_lanes(load_first(x + i, lanes), lanes, lowest));
  }
  return max_lanes(m);
}

}  // namespace
}  // namespace gpt::kernels
