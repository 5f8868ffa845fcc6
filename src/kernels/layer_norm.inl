// Layer normalization of rows.

namespace gpt::kernels {
namespace {

struct RowStatistics {
  float mean;
  float scale;  // 1 / sqrt(var + epsilon)
};

inline RowStatistics statistics_of(const float* x, std::int64_t n, float epsilon) noexcept {
  const F32x16 zero = broadcast(0.0f);
  const double sum = sum_row(n, [=](std::int64_t i, int lanes) noexcept { return load_first(x + i, lanes); });
  const auto mean = static_cast<float>(sum / static_cast<double>(n));
  const double squares = sum_row(n, [=](std::int64_t i, int lanes) noexcept {
    const F32x16 d = first_lanes(load_first(x + i, lanes) - broadcast(mean), lanes, zero);
    return d * d;
  });
  const auto variance = static_cast<float>(squares / static_cast<double>(n));
  return {mean, 1.0f / __builtin_sqrtf(variance + epsilon)};
}

void layer_norm_rows(const LayerNormArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t n = a.columns;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * n;
    float* y = a.y + row * n;
    const RowStatistics s = statistics_of(x, n, a.epsilon);
    const F32x16 mean = broadcast(s.mean), scale = broadcast(s.scale);
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const int lanes = lanes_left(i, n);
      const F32x16 normal = (load_first(x + i, lanes) - mean) * scale;
      store_first(y + i, fma(normal, load_weights(a.gamma, i, lanes), load_weights(a.beta, i, lanes)), lanes);
    }
  }
}

/// With n = (x - mean) scale and g = dy gamma: dx += scale (g - mean of g - n mean of g n), means being over the row.
void layer_norm_backward_rows(const LayerNormBackwardArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t n = a.columns;
  const F32x16 zero = broadcast(0.0f);
  for (std::int64_t row = begin; row < end; ++row) {
    const float *x = a.x + row * n, *dy = a.dy + row * n;
    const RowStatistics s = statistics_of(x, n, a.epsilon);
    a.statistics[2 * row] = s.mean;
    a.statistics[2 * row + 1] = s.scale;
    if (a.dx == nullptr) continue;
    float* dx = a.dx + row * n;
    const F32x16 mean = broadcast(s.mean), scale = broadcast(s.scale);
    const auto g = [&](std::int64_t i, int lanes) noexcept {
      return load_first(dy + i, lanes) * load_weights(a.gamma, i, lanes);
    };
    const auto normal = [&](std::int64_t i, int lanes) noexcept {
      return first_lanes((load_first(x + i, lanes) - mean) * scale, lanes, zero);
    };
    const auto count = static_cast<double>(n);
    const F32x16 g_mean = broadcast(static_cast<float>(sum_row(n, g) / count));
    const F32x16 gn_mean = broadcast(static_cast<float>(
        sum_row(n, [&](std::int64_t i, int lanes) noexcept { return g(i, lanes) * normal(i, lanes); }) /
        count));
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const int lanes = lanes_left(i, n);
      const F32x16 centered = g(i, lanes) - g_mean;
      const F32x16 d = fma(zero - normal(i, lanes), gn_mean, centered);
      store_first(dx + i, fma(scale, d, load_first(dx + i, lanes)), lanes);
    }
  }
}

/// dgamma += sum of dy n, dbeta += sum of dy: one chain over the rows in order for every column.
void layer_norm_parameter_columns(const LayerNormBackwardArgs& a, std::int64_t begin,
                                  std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    F32x16 gamma = broadcast(0.0f), beta = broadcast(0.0f);
    for (std::int64_t row = 0; row < a.rows; ++row) {
      const F32x16 dy = load_first(a.dy + row * a.columns + i, lanes);
      const F32x16 mean = broadcast(a.statistics[2 * row]), scale = broadcast(a.statistics[2 * row + 1]);
      gamma = fma(dy, (load_first(a.x + row * a.columns + i, lanes) - mean) * scale, gamma);
      beta = beta + dy;
    }
    if (a.dgamma != nullptr) store_first(a.dgamma + i, load_first(a.dgamma + i, lanes) + gamma, lanes);
    if (a.dbeta != nullptr) store_first(a.dbeta + i, load_first(a.dbeta + i, lanes) + beta, lanes);
  }
}

}  // namespace
}  // namespace gpt::kernels
