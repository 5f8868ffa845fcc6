// Activations and their slopes over a range of elements.

namespace gpt::kernels {
namespace {

void activation_range(ops::Activation activation, const float* x, float* y, std::int64_t begin,
                      std::int64_t end) noexcept {
  with_activation(activation, [=]<ops::Activation f>() noexcept {
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const int lanes = lanes_left(i, end);
      store_first(y + i, activate<f>(load_first(x + i, lanes)), lanes);
    }
  });
}

void activation_backward_range(ops::Activation activation, const float* x, const float* dy, float* dx,
                               std::int64_t begin, std::int64_t end) noexcept {
  with_activation(activation, [=]<ops::Activation f>() noexcept {
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const int lanes = lanes_left(i, end);
      store_first(dx + i, load_first(dy + i, lanes) * slope<f>(load_first(x + i, lanes)), lanes);
    }
  });
}

}  // namespace
}  // namespace gpt::kernels
