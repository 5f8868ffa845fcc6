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

void activation_range(ops::Activation activation, const float* x, float* y, std::int64_t begin,
                      std::int64_t end) noexcept {
  with_activation(activation, [=]<ops::Activation f>() noexcept {
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const int lanes = lanes_left(i, end);
      store_first(y + i, activate<f>(load_first(x + i, lanes)), lanes);
    }
  });
}

}  // namespace
}  // namespace gpt::kernels
