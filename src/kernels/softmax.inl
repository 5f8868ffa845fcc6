// Softmax of rows, and what log-probabilities need of them.

namespace gpt::kernels {
namespace {

void softmax_rows(const float* x, float* y, std::int64_t columns, std::int64_t begin,
                  std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    const float* in = x + row * columns;
    float* out = y + row * columns;
    const F32x16 m = broadcast(max_of_row(in, columns));
    const double sum = sum_row(columns, [=](std::int64_t i, int lanes) noexcept {
      const F32x16 e = first_lanes(exp(load_first(in + i, lanes) - m), lanes, broadcast(0.0f));
      store_first(out + i, e, lanes);
      return e;
    });
    const F32x16 total = broadcast(static_cast<float>(sum));
    for (std::int64_t i = 0; i < columns; i += kLanes) {
      const int lanes = lanes_left(i, columns);
      store_first(out + i, load_first(out + i, lanes) / total, lanes);
    }
  }
}

void exp_sum_rows(const float* x, std::int64_t columns, float* max_out, double* sum_out, std::int64_t begin,
                  std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    const float* in = x + row * columns;
    max_out[row] = max_of_row(in, columns);
    const F32x16 m = broadcast(max_out[row]);
    sum_out[row] = sum_row(columns, [=](std::int64_t i, int lanes) noexcept {
      return first_lanes(exp(load_first(in + i, lanes) - m), lanes, broadcast(0.0f));
    });
  }
}

}  // namespace
}  // namespace gpt::kernels
