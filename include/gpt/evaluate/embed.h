// A text as one vector: what the final hidden states say of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/evaluate/score.h"
#include "gpt/models/gpt2.h"

namespace gpt {

enum class Pooling {
  kMean,  // the mean over the tokens, summed in double in their order
  kLast,  // that of the last token, which has seen all others
};

struct EmbedOptions {
  Pooling pooling = Pooling::kMean;
  EvaluationProgressCallback on_progress = {};  // counts sequences
  std::stop_token stop = {};                    // asked before every matrix product
};

/// Of each sequence of 1 to n_positions tokens the pooled result of the final layer norm (transformers' last_hidden_state):
/// float32 [sequences, D]. A row depends on its sequence alone. Throws ArgumentError (no sequences, an empty or too long one,
/// a token id outside [0, V)); NumericError naming the first sequence whose vector is not finite, and the network's first
/// parameter that is not; CancelledError; MemoryError.
Tensor embed(const Gpt2& network, std::span<const std::vector<TokenId>> sequences,
             const EmbedOptions& options = {});

}  // namespace gpt
