#include "gpt/evaluate/ensemble.h"

#include <algorithm>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

constexpr std::string_view kEnsemble = "ensemble";

/// Finite for a probability of 0, too, and far from anything that a float32 can tell from it.
double finite_log(double p) { return math::log(std::max(p, 0x1p-1000)); }

}  // namespace

Tensor mean_of_probabilities(ProblemType type, std::span<const Tensor> logits,
                             std::span<const double> temperatures) {
  if (logits.empty()) fail<ArgumentError>(kEnsemble, "there are no logits");
  if (!temperatures.empty() && temperatures.size() != logits.size())
    fail<ArgumentError>(kEnsemble, temperatures.size(), " temperatures, expected one for each of ",
                        logits.size(), " classifiers");
  const Shape shape = logits.front().shape();
  for (const Tensor& one : logits)
    if (one.dtype() != DType::f32 || one.shape() != shape || shape.rank() != 2)
      fail<ShapeError>(kEnsemble, "logits are ", name_of(one.dtype()), " ", one.shape().to_string(),
                       ", expected float32 ", shape.rank() == 2 ? shape.to_string() : "[R, labels]");
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kEnsemble, [&] {
    Tensor result = Tensor::empty(shape);
    const auto width = static_cast<std::size_t>(shape[1]);
    std::vector<double> mean(width);
    for (std::int64_t row = 0; row < shape[0]; ++row) {
      const std::size_t first = static_cast<std::size_t>(row) * width;
      std::ranges::fill(mean, 0.0);
      for (std::size_t i = 0; i < logits.size(); ++i) {
        const std::vector<double> p = probabilities(type, logits[i].span<float>().subspan(first, width),
                                                    temperatures.empty() ? 1 : temperatures[i]);
        for (std::size_t c = 0; c < width; ++c) mean[c] += p[c] / static_cast<double>(logits.size());
      }
      for (std::size_t c = 0; c < width; ++c) {
        const double p = mean[c], logit = type == ProblemType::kRegression ? p
                                          : type == ProblemType::kMultiLabel
                                              ? finite_log(p) - finite_log(1 - p)
                                              : finite_log(p);
        result.span<float>()[first + c] = static_cast<float>(logit);
      }
    }
    return result;
  });
}

}  // namespace gpt
