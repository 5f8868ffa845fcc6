#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/minimize.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/evaluate/classification.h"

namespace gpt {
namespace {

constexpr std::string_view kBlend = "blend";
constexpr double kLeastInverse = 1.0 / 64;  // as fit_temperature
constexpr double kLeastProbability = 0x1p-52;

double log_of(double probability) { return math::log(std::max(probability, kLeastProbability)); }

/// Makes p of sums in place, and returns log(sum(e^sum)).
double softmax_in_place(std::span<double> sums) {
  const double most = *std::ranges::max_element(sums);
  double total = 0;
  for (double& x : sums) total += x = math::exp(x - most);
  for (double& x : sums) x /= total;
  return most + math::log(total);
}

Blend likeliest_blend(ConstTensorView logits, std::span<const double> probabilities,
                      std::span<const std::int32_t> truth) {
  const auto classes = static_cast<std::size_t>(logits.dim(1));
  const double each = 1 / static_cast<double>(truth.size());
  std::vector<double> logs;
  for (const double q : probabilities) logs.push_back(log_of(q));
  std::vector<double> p(classes);
  const auto loss = [&](std::span<const double> x, std::span<double> gradient) {
    const double a = x[0] - 0.5, b = x[1] - 0.5;
    double sum = (a * a + b * b) / 2;
    gradient[0] = a;
    gradient[1] = b;
    for (std::size_t r = 0; r < truth.size(); ++r) {
      const auto z = logits.span<float>().subspan(r * classes, classes);
      const auto l = std::span<const double>(logs).subspan(r * classes, classes);
      const auto right = static_cast<std::size_t>(truth[r]);
      for (std::size_t c = 0; c < classes; ++c) p[c] = x[0] * static_cast<double>(z[c]) + x[1] * l[c];
      const double of_right = p[right];
      sum += softmax_in_place(p) - of_right;
      for (std::size_t c = 0; c < classes; ++c) {
        const double excess = p[c] - (c == right ? 1 : 0);
        gradient[0] += excess * static_cast<double>(z[c]);
        gradient[1] += excess * l[c];
      }
    }
    for (double& g : gradient) g *= each;
    return each * sum;
  };
  std::vector<double> x{0.5, 0.5};
  minimize(loss, x, 100);
  if (!(x[1] > 0)) return {fit_temperature(logits, truth), 0};
  return {1 / std::clamp(x[0], kLeastInverse, 1 / kLeastInverse), x[1]};
}

}  // namespace

Blend fit_blend(ConstTensorView logits, std::span<const double> probabilities,
                std::span<const std::int32_t> truth) {
  if (logits.shape().rank() != 2 || logits.dtype() != DType::f32 ||
      logits.dim(0) != static_cast<std::int64_t>(truth.size()))
    fail<ShapeError>(kBlend, "logits are ", name_of(logits.dtype()), " ", logits.shape().to_string(),
                     ", expected float32 [", truth.size(), ", classes]");
  if (truth.empty() || logits.dim(1) < 1) fail<ArgumentError>(kBlend, "there is nothing to judge");
  if (static_cast<std::int64_t>(probabilities.size()) != logits.numel())
    fail<ArgumentError>(kBlend, probabilities.size(), " probabilities, expected ", logits.dim(1),
                        " for each of ", truth.size());
  for (std::size_t i = 0; i < truth.size(); ++i)
    if (truth[i] < 0 || truth[i] >= logits.dim(1))
      fail<ArgumentError>(kBlend, "class ", truth[i], " at ", i, " is outside [0, ", logits.dim(1), ")");
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kBlend, [&] { return likeliest_blend(logits, probabilities, truth); });
}

std::vector<double> blended(std::span<const float> logits, std::span<const double> probabilities,
                            const Blend& blend) {
  if (!(blend.temperature > 0))
    fail<ArgumentError>(kBlend, "temperature is ", blend.temperature, ", expected more than 0");
  if (blend.weight != 0 && probabilities.size() != logits.size())
    fail<ArgumentError>(kBlend, probabilities.size(), " probabilities for ", logits.size(), " logits");
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kBlend, [&] {
    std::vector<double> p;
    for (std::size_t c = 0; c < logits.size(); ++c)
      p.push_back(static_cast<double>(logits[c]) / blend.temperature +
                  (blend.weight == 0 ? 0 : blend.weight * log_of(probabilities[c])));
    if (!p.empty()) softmax_in_place(p);
    return p;
  });
}

}  // namespace gpt
