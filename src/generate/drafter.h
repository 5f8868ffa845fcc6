// Guesses of the next tokens, which the model then takes or leaves.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"

namespace gpt::generate {

/// The guesses for one sequence. What they are changes no result, only how soon it is there.
class Drafter {
 public:
  virtual ~Drafter() = default;

  /// Appends to `draft` at most `most` tokens, or none, that may follow `tokens`.
  ///   rng  the sequence's random numbers, by which the model will draw; null when it is greedy
  virtual void propose(std::span<const TokenId> tokens, std::size_t most, const CounterRng* rng,
                       std::vector<TokenId>& draft) = 0;
};

/// Whether the options ask for guesses.
bool has_drafts(const GenerateOptions& options);

/// What a sequence of at most `max_length` tokens needs, null without guesses. Throws ArgumentError when the assistant_model
/// has another vocabulary.
std::unique_ptr<Drafter> make_drafter(const GenerateOptions& options, std::size_t vocab_size,
                                      std::size_t max_length);

}  // namespace gpt::generate
