// Layer normalization of rows.

namespace gpt::kernels {
namespace {

void layer_norm_rows(const LayerNormArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t n = a.columns;
  const F32x16 zero = broadcast(0.0f);
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * n;
    float* y = a.y + row * n;
    const double sum =
        sum_row(n, [=](std::int64_t i, int lanes) noexcept { return load_first(x + i, lanes); });
    const F32x16 mean = broadcast(static_cast<float>(sum / static_cast<double>(n)));
    const double squares = sum_row(n, [=](std::int64_t i, int lanes) noexcept {
      const F32x16 d = first_lanes(load_first(x + i, lanes) - mean, lanes, zero);
      return d * d;
    });
    const auto variance = static_cast<float>(squares / static_cast<double>(n));
    const F32x16 scale = broadcast(1.0f / __builtin_sqrtf(variance + a.epsilon));
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const int lanes = lanes_left(i, n);
      const F32x16 normal = (load_first(x + i, lanes) - mean) * scale;
      store_first(y + i, fma(normal, load_weights(a.gamma, i, lanes), load_weights(a.beta, i, lanes)), lanes);
    }
  }
}

}  // namespace
}  // namespace gpt::kernels
