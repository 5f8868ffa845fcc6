// The choice of the next token from a row of logits.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/core/token.h"
#include "gpt/generate/logits_processor.h"

namespace gpt {

/// The largest score's index; of equal ones the lowest. `scores` must not be empty.
TokenId argmax(std::span<const float> scores) noexcept;
TokenId argmax(std::span<const double> scores) noexcept;

/// p[i] = e^(scores[i] - max) / sum, in double; p may be scores. At least one score must be finite.
void softmax(std::span<const double> scores, std::span<double> p) noexcept;

/// Chooses tokens: runs the processors over a row of logits, then takes the best (greedy) or draws one.
///
/// A draw at position t of the sequence (t tokens stand before it) inverts the cumulative softmax of the
/// scores, taken over token ids in their order, at rng.uniform(t). It depends on the scores, the generator's
/// seed and stream and on t alone: not on a batch, a chunk, or earlier draws.
class Sampler {
 public:
  /// Greedy without a generator.
  explicit Sampler(LogitsProcessors processors, std::optional<CounterRng> rng = std::nullopt);

  /// What the processors must remember of one sequence, as it is before the first new token: each sequence has its own.
  /// Empty when they remember nothing.
  std::vector<double> initial_state() const;

  /// The token after step.history, chosen from its logits [V]: finite or -infinity, not all -infinity. A step's rng takes the
  /// place of the sampler's; its state is the sampler's business. Updates `state`, the sequence's numbers. Throws NumericError
  /// when the processors leave no token, or a score that is not a number; ArgumentError when `state` has another size than
  /// initial_state(); what a processor throws.
  TokenId next(std::span<const float> logits, DecodingStep step, std::span<double> state);
  /// The same for a sequence of which nothing but the tokens is known.
  TokenId next(std::span<const float> logits, std::span<const TokenId> history) {
    return next(logits, DecodingStep{.history = history}, {});
  }

 private:
  struct Entry {
    std::unique_ptr<const LogitsProcessor> processor;
    std::size_t state_begin = 0;  // its numbers in the sequence's state
    std::size_t state_size = 0;
  };

  std::vector<Entry> processors_;
  std::vector<double> initial_state_;
  std::optional<CounterRng> rng_;
  std::vector<double> scores_;
  ProcessorScratch scratch_;
};

}  // namespace gpt
