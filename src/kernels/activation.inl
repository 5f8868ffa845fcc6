// Activations; the formulas are in gpt/ops/activation.h.

namespace gpt::kernels {
namespace {

template <ops::Activation f>
inline F32x16 activate(const F32x16& x) noexcept {
  using enum ops::Activation;
  if constexpr (f == kRelu) return max(broadcast(0.0f), x);  // in this order NaN stays
  if constexpr (f == kSilu) return times_sigmoid(x, x);
  if constexpr (f == kTanh) return tanh(x);
  if constexpr (f == kQuickGelu) return times_sigmoid(x, broadcast(1.702f) * x);
  if constexpr (f == kGelu) {
    const F32x16 half = broadcast(0.5f) * x;
    return fma(half, erf(x * broadcast(0.70710678118654752f)), half);
  }
  // 0.5 x (1 + tanh u) = x sigmoid(2u)
  if constexpr (f == kGeluNew) {
    const F32x16 cubic = fma(x * x * x, broadcast(0.044715f), x);
    return times_sigmoid(x, cubic * broadcast(1.5957691216057308f));  // 2 sqrt(2 / pi)
  }
  if constexpr (f == kGeluFast) {
    const F32x16 inner = fma(broadcast(0.044715f) * x, x, broadcast(1.0f));
    return times_sigmoid(x, broadcast(1.5957691216f) * x * inner);
  }
  return x;
}

/// d/dx of x sigmoid(z): s + x s (1 - s) z', where s = sigmoid(z).
inline F32x16 slope_of_sigmoid_product(const F32x16& x, const F32x16& z, const F32x16& z_slope) noexcept {
  const F32x16 one = broadcast(1.0f);
  const F32x16 s = one / (one + exp(broadcast(0.0f) - z));
  return fma(x * z_slope, s * (one - s), s);
}

/// f'(x)
template <ops::Activation f>
inline F32x16 slope(const F32x16& x) noexcept {
  using enum ops::Activation;
  const F32x16 one = broadcast(1.0f);
  if constexpr (f == kRelu) return select_less(broadcast(0.0f), x, one, broadcast(0.0f));
  if constexpr (f == kSilu) return slope_of_sigmoid_product(x, x, one);
  if constexpr (f == kTanh) {
    const F32x16 t = tanh(x);
    return fma(broadcast(0.0f) - t, t, one);
  }
  if constexpr (f == kQuickGelu) return slope_of_sigmoid_product(x, broadcast(1.702f) * x, broadcast(1.702f));
  if constexpr (f == kGelu) {  // (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi)
    const F32x16 half = broadcast(0.5f);
    const F32x16 cdf = fma(half, erf(x * broadcast(0.70710678118654752f)), half);
    const F32x16 density = exp(broadcast(-0.5f) * x * x) * broadcast(0.39894228040143268f);
    return fma(x, density, cdf);
  }
  if constexpr (f == kGeluNew || f == kGeluFast) {  // z = c (x + 0.044715 x^3)
    constexpr float c = f == kGeluNew ? 1.5957691216057308f : 1.5957691216f;
    const F32x16 square = x * x;
    const F32x16 z = broadcast(c) * x * fma(square, broadcast(0.044715f), one);
    return slope_of_sigmoid_product(x, z, broadcast(c) * fma(square, broadcast(3 * 0.044715f), one));
  }
  return one;
}

/// Calls f with the activation as a compile-time constant.
template <class F>
inline void with_activation(ops::Activation activation, F f) noexcept {
  using enum ops::Activation;
  switch (activation) {
    case kNone: return f.template operator()<kNone>();
    case kGeluNew: return f.template operator()<kGeluNew>();
    case kGelu: return f.template operator()<kGelu>();
    case kRelu: return f.template operator()<kRelu>();
    case kSilu: return f.template operator()<kSilu>();
    case kTanh: return f.template operator()<kTanh>();
    case kQuickGelu: return f.template operator()<kQuickGelu>();
    case kGeluFast: return f.template operator()<kGeluFast>();
  }
}

}  // namespace
}  // namespace gpt::kernels
