#include "peft/adalora_importance.h"

#include <cmath>
#include <vector>

#include "gpt/core/parallel.h"

namespace gpt::peft {
namespace {

double value_at(ConstTensorView t, std::int64_t i) {
  return static_cast<double>(t.dtype() == DType::bf16 ? static_cast<float>(t.data<BFloat16>()[i])
                                                      : t.data<float>()[i]);
}

}  // namespace

void smooth(Importance& importance, const nn::LearnedTensor& learned, double gradient_scale, double beta1,
            double beta2) {
  float *const mean = importance.mean.data<float>(), *const uncertainty =
                                                         importance.uncertainty.data<float>();
  constexpr std::int64_t kGrain = 1 << 14;
  parallel_for(importance.mean.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) {
      const double g = gradient_scale * value_at(learned.gradient, i);
      const double now = std::abs(value_at(learned.value, i) * g);
      mean[i] = static_cast<float>(beta1 * static_cast<double>(mean[i]) + (1 - beta1) * now);
      uncertainty[i] = static_cast<float>(beta2 * static_cast<double>(uncertainty[i]) +
                                          (1 - beta2) * std::abs(now - static_cast<double>(mean[i])));
    }
  });
}

double rank_value(std::span<const Importance, 3> of, std::int64_t k) {
  const Importance &a = of[0], &b = of[1], &e = of[2];
  const auto value = [](const Importance& x, std::int64_t i) {
    return static_cast<double>(x.mean.data<float>()[i]) * static_cast<double>(x.uncertainty.data<float>()[i]);
  };
  const std::int64_t in = a.mean.dim(1), out = b.mean.dim(0), r = b.mean.dim(1);
  double of_a = 0, of_b = 0;
  for (std::int64_t i = 0; i < in; ++i) of_a += value(a, k * in + i);
  for (std::int64_t o = 0; o < out; ++o) of_b += value(b, o * r + k);
  return value(e, k) + of_a / static_cast<double>(in) + of_b / static_cast<double>(out);
}

void add_orthogonality(const nn::LearnedTensor& learned, bool rows, double weight) {
  const ConstTensorView w = learned.value;
  const std::int64_t n = w.dim(rows ? 0 : 1), length = w.dim(rows ? 1 : 0);
  // Element i of vector k.
  const auto index = [&](std::int64_t k, std::int64_t i) { return rows ? k * length + i : i * n + k; };
  std::vector<double> m(static_cast<std::size_t>(n * n));
  double squares = 0;
  for (std::int64_t k = 0; k < n; ++k)
    for (std::int64_t l = 0; l < n; ++l) {
      double product = k == l ? -1 : 0;
      for (std::int64_t i = 0; i < length; ++i)
        product += value_at(w, index(k, i)) * value_at(w, index(l, i));
      m[static_cast<std::size_t>(k * n + l)] = product;
      squares += product * product;
    }
  if (squares == 0) return;
  const double factor = 2 * weight / std::sqrt(squares);
  float* gradient = learned.gradient.data<float>();
  for (std::int64_t k = 0; k < n; ++k)
    for (std::int64_t i = 0; i < length; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < n; ++l)
        sum += m[static_cast<std::size_t>(k * n + l)] * value_at(w, index(l, i));
      gradient[index(k, i)] += static_cast<float>(factor * sum);
    }
}

}  // namespace gpt::peft
