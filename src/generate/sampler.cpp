#include "gpt/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/float_environment.h"
#include "generate/weights.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

template <class T>
TokenId index_of_max(std::span<const T> scores) noexcept {
  return static_cast<TokenId>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

// The first token at which the running sum of the weights exceeds u times their sum, u in [0, 1). A token of
// weight 0 is never drawn.
TokenId invert_cumulative(std::span<const double> weights, double sum, double u) noexcept {
  const double target = u * sum;
  double cumulative = 0.0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0.0) continue;
    cumulative += weights[i];
    last = i;
    if (cumulative > target) break;
  }
  return static_cast<TokenId>(last);  // the last of weight above 0 when u * sum was rounded up to the sum
}

}  // namespace

TokenId argmax(std::span<const float> scores) noexcept { return index_of_max(scores); }
TokenId argmax(std::span<const double> scores) noexcept { return index_of_max(scores); }

void softmax(std::span<const double> scores, std::span<double> p) noexcept {
  const double sum = generate::exp_weights(scores, p);
  for (double& value : p) value /= sum;
}

Sampler::Sampler(LogitsProcessors processors, std::optional<CounterRng> rng)
    : processors_(std::move(processors)), rng_(rng) {}

TokenId Sampler::next(std::span<const float> logits, std::span<const TokenId> history) {
  const DefaultFloatEnvironment environment;
  if (!rng_ && processors_.empty()) return argmax(logits);
  scores_.assign(logits.begin(), logits.end());
  for (const auto& processor : processors_) processor->process(scores_, history, scratch_);

  const TokenId best = argmax(scores_);
  const double max = scores_[static_cast<std::size_t>(best)];
  if (!std::isfinite(max))
    fail<NumericError>("generate", "after the logits processors the best score of position ", history.size(),
                       " is ", max, ", expected a finite number");
  if (!rng_) return best;
  const double sum = generate::exp_weights(scores_, scores_);
  if (!std::isfinite(sum))
    fail<NumericError>("generate", "the logits processors left a score that is not a number at position ",
                       history.size());
  return invert_cumulative(scores_, sum, rng_->uniform(history.size()));
}

}  // namespace gpt
