// The choice of the next token from a row of logits.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/core/token.h"
#include "gpt/generate/logits_processors.h"

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

  /// The token after `history`, chosen from its logits [V]: finite or -infinity, not all -infinity. Throws
  /// NumericError when the processors leave no token, or a score that is not a number; what a processor
  /// throws.
  TokenId next(std::span<const float> logits, std::span<const TokenId> history);

 private:
  LogitsProcessors processors_;
  std::optional<CounterRng> rng_;
  std::vector<double> scores_;
  ProcessorScratch scratch_;
};

}  // namespace gpt
