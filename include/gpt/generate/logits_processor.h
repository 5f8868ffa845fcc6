// What stands between the network's logits and the choice of a token: transformations of one row of scores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/core/token.h"

namespace gpt {

/// Memory that processors use during a call and leave allocated, so that a steady state allocates nothing.
/// Its content means nothing between calls.
struct ProcessorScratch {
  std::vector<double> values;
  std::vector<double> weights;
  std::vector<TokenId> ids;
  std::vector<std::int32_t> counts;
};

/// The place in a sequence that a token is chosen for: what a processor may know beside the scores. Spans are
/// valid during the call.
struct DecodingStep {
  std::span<const TokenId> history = {};  // all tokens of the sequence so far, the prompt's first
  std::size_t prompt_length = 0;          // how many of them are the prompt's
  /// The length at which the sequence ends at the latest, prompt included.
  std::size_t max_length = std::numeric_limits<std::size_t>::max();
  std::size_t sequence = 0;  // index of its prompt in a batch
  /// [V], what the network says after the negative prompt and the same new tokens; empty without guidance.
  std::span<const float> unconditional_logits = {};
  /// What the groups of beams before this one have chosen for this place (diverse beam search).
  std::span<const TokenId> chosen_by_groups = {};
  /// The sequence's random numbers, null when it is greedy. A draw is uniform(t) at t = history.size();
  /// processors use second_uniform(t).
  const CounterRng* rng = nullptr;
  /// The processor's own numbers about this sequence.
  std::span<const double> state = {};
};

/// One transformation of the scores of the next token, for example a filter. It knows nothing of the other
/// processors, holds nothing that changes, and may be shared between sequences and threads. What it must
/// remember of a sequence is a few numbers that belong to the sequence: whoever decodes keeps them (for all
/// processors in one vector, see Sampler), and copies them where a sequence forks.
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  /// Changes `scores` in place.
  ///   scores  [V]: unnormalized log-probabilities, finite or -infinity = dropped
  ///   step    where the sequence stands
  /// Throws ArgumentError naming a token of the history, or of the processor's options, outside [0, V), and
  /// what the step lacks that the processor needs.
  virtual void process(std::span<double> scores, const DecodingStep& step,
                       ProcessorScratch& scratch) const = 0;

  /// The numbers to remember, as they are before the first new token; empty for most.
  virtual std::vector<double> initial_state() const { return {}; }
  /// Tells a processor that remembers something that `id` was chosen, to which the scores after all
  /// processors gave this probability.
  virtual void update(std::span<double> state, TokenId id, double probability) const;
};

/// Processors in the order in which they work.
using LogitsProcessors = std::vector<std::unique_ptr<const LogitsProcessor>>;

/// A user's own: called with the scores and the place. It must be callable from every thread that generates, and give the
/// same for the same arguments.
class FunctionProcessor final : public LogitsProcessor {
 public:
  using Function = std::function<void(std::span<double> scores, const DecodingStep& step)>;

  explicit FunctionProcessor(Function function);  // not empty
  /// Throws NumericError when the function leaves a score that is NaN or +infinity; what it throws.
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  Function function_;
};

}  // namespace gpt
