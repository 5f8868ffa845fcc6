#include "gpt/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "generate/weights.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

template <class T>
TokenId index_of_max(std::span<const T> scores) noexcept {
  return static_cast<TokenId>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

}  // namespace

TokenId argmax(std::span<const float> scores) noexcept { return index_of_max(scores); }
TokenId argmax(std::span<const double> scores) noexcept { return index_of_max(scores); }

void softmax(std::span<const double> scores, std::span<double> p) noexcept {
  const DefaultFloatEnvironment environment;
  const double sum = generate::exp_weights(scores, p);
  for (double& value : p) value /= sum;
}

Sampler::Sampler(LogitsProcessors processors, std::optional<CounterRng> rng) try : rng_(rng) {
  processors_.reserve(processors.size());
  for (auto& processor : processors) {
    const std::vector<double> state = processor->initial_state();
    processors_.push_back({std::move(processor), initial_state_.size(), state.size()});
    initial_state_.insert(initial_state_.end(), state.begin(), state.end());
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

std::vector<double> Sampler::initial_state() const {
  return with_memory_errors("generate", [&] { return initial_state_; });
}

TokenId Sampler::next(std::span<const float> logits, DecodingStep step, std::span<double> state) try {
  if (state.size() != initial_state_.size())
    fail<ArgumentError>("generate", "the state of the sequence has ", state.size(), " numbers, expected ",
                        initial_state_.size());
  const DefaultFloatEnvironment environment;
  const CounterRng* const rng = step.rng != nullptr ? step.rng : rng_ ? &*rng_ : nullptr;
  if (rng == nullptr && processors_.empty()) return argmax(logits);
  scores_.assign(logits.begin(), logits.end());
  step.rng = rng;
  for (const Entry& entry : processors_) {
    step.state = state.subspan(entry.state_begin, entry.state_size);
    entry.processor->process(scores_, step, scratch_);
  }

  TokenId id = argmax(scores_);
  const double max = scores_[static_cast<std::size_t>(id)];
  const std::size_t position = step.history.size();
  if (max == generate::kDropped)
    fail<NumericError>("generate", "the logits processors leave no token at position ", position,
                       ", expected at least one");
  if (!std::isfinite(max))
    fail<NumericError>("generate", "after the logits processors the best score of position ", position,
                       " is ", max, ", expected a finite number");
  if (rng == nullptr && state.empty()) return id;
  const double sum = generate::exp_weights(scores_, scores_);
  if (!std::isfinite(sum))
    fail<NumericError>("generate", "the logits processors left a score that is not a number at position ",
                       position);
  if (rng != nullptr)
    id = static_cast<TokenId>(generate::invert_cumulative(scores_, sum, rng->uniform(position)));
  const double probability = scores_[static_cast<std::size_t>(id)] / sum;
  for (const Entry& entry : processors_) {
    if (entry.state_size > 0)
      entry.processor->update(state.subspan(entry.state_begin, entry.state_size), id, probability);
  }
  return id;
} catch (...) {
  rethrow_with_memory_errors("generate");
}

}  // namespace gpt
