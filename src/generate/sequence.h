// One sequence that grows token by token: what was chosen, and what choosing the next token needs. It knows nothing of
// caches and batches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/settings.h"
#include "generate/stop_strings.h"
#include "gpt/core/rng.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/sampler.h"
#include "gpt/models/model.h"
#include "gpt/text/stream_decoder.h"

namespace gpt::generate {

/// Room for the tokens of a sequence, so that none is allocated while it grows: for a million new ones, of which a context
/// that slides may be asked for any number.
inline std::size_t room_for_tokens(std::size_t there, std::int64_t most_new) noexcept {
  return there + static_cast<std::size_t>(std::min(most_new, std::int64_t{1} << 20));
}

struct Sequence {
  /// Number `number` of the prompt's num_return_sequences. The settings must outlive it. Throws ArgumentError when the
  /// prompt is empty, holds a token outside the vocabulary, or has no room for new ones.
  Sequence(const Model& model, const Settings& settings, const Sampler& sampler,
           const std::vector<TokenId>& prompt, std::size_t number);

  std::optional<CounterRng> rng;  // unless greedy
  GenerateResult result;
  std::vector<TokenId> tokens;  // the prompt, then result.ids
  std::int64_t max_new_tokens = 0;
  bool ended = false;
  std::vector<double> processor_state;
  std::optional<StreamDecoder> decoder;
  std::optional<StopStringMatcher> stop_strings;
};

/// Chooses the token behind all of a sequence's from its logits [V], appends it, and ends the sequence where it must.
///   prompt         the index of its prompt, for the processors
///   unconditional  [V], with guidance
/// Throws NumericError where the logits are not finite, what Sampler::next throws.
Piece choose_next(Sequence& sequence, const Model& model, const Settings& settings, Sampler& sampler,
                  std::span<const float> logits, std::size_t prompt,
                  std::span<const float> unconditional = {});

/// Ends the sequence. Returns the text that was held back.
std::string finish(Sequence& sequence, FinishReason reason);

/// Counts tokens of a sequence's prompt that a pass computed, and the pass's time.
void count_pass(Sequence& sequence, std::int64_t tokens);
void count_time(Sequence& sequence, double seconds);

}  // namespace gpt::generate
