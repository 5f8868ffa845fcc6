// A look inside: which tokens a result is due to, what each layer would say, and where the attention goes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/evaluate/score.h"
#include "gpt/models/classifier.h"
#include "gpt/models/gpt2.h"

namespace gpt {

/// A number that is to be explained, made of the final hidden state float32 [T, D] of one sequence. With a tape its gradient
/// is to be seeded, or recorded, there.
using ExplainedValue = std::function<double(ConstTensorView final_hidden, Tape* tape, Arena& arena)>;

/// log p of this token behind the sequence. Throws ArgumentError for an id outside the vocabulary when it is used; the network
/// must outlive it.
ExplainedValue next_token_log_prob(const Gpt2& network, TokenId token);

/// What a classifier says of one of its labels: where one label is right log p of it, else its logit. For sequences without padding
/// (Classifier::used) of classifier.model().network(). Throws ArgumentError for a label outside [0, num_labels); the classifier must
/// outlive it.
ExplainedValue label_score(const Classifier& classifier, std::int64_t label);

/// What each token contributes to a value.
struct Attribution {
  std::vector<double> scores;  // one for each token
  double value = 0;            // the value itself
  double baseline = 0;         // of integrated gradients: the value where all tokens are the baseline's
};

/// Gradient times input (Shrikumar et al., arXiv 1605.01713): the scalar product of each token's embedding (token and position)
/// with the value's gradient. In double, in the order of the features. Works on packed and quantized networks. Throws as
/// Gpt2::forward, what the value throws, and NumericError for numbers that are not finite, naming a parameter that is not.
Attribution gradient_times_input(const Gpt2& network, std::span<const TokenId> ids,
                                 const ExplainedValue& value, const std::stop_token& stop = {});

/// Integrated gradients (Sundararajan et al., ICML 2017, section 3) on the straight way from the embeddings of `baseline` at every
/// position, a token that says little such as the end of a text, to those of the tokens, by the midpoints of `steps` equal parts: the
/// scores add up to value - baseline, the better the more steps. (Zero is no way to begin: layer norms make what is near it large.)
/// Throws likewise, and ArgumentError for less than 1 step or more than 2^24, which float32 does not tell apart, or a baseline outside
/// the vocabulary.
Attribution integrated_gradients(const Gpt2& network, std::span<const TokenId> ids,
                                 const ExplainedValue& value, TokenId baseline, std::int64_t steps = 32,
                                 const std::stop_token& stop = {});

/// The logit lens (nostalgebraist, 2020): the most probable next tokens if the network ended after each layer. Element [l][t]
/// is of layer l (0: the embeddings; n_layer: the network's own) behind token t. Throws as Gpt2::forward; ArgumentError for a
/// top_n outside [1, V]; NumericError for logits that are not finite.
std::vector<std::vector<std::vector<RankedToken>>> logit_lens(const Gpt2& network,
                                                              std::span<const TokenId> ids,
                                                              std::int64_t top_n = 1,
                                                              const std::stop_token& stop = {});

/// The attention's probabilities of each layer, float32 [H, T, T] with the heads that it has. Throws as Gpt2::forward.
std::vector<Tensor> attentions(const Gpt2& network, std::span<const TokenId> ids,
                               const std::stop_token& stop = {});

/// Attention rollout (Abnar, Zuidema, arXiv 2005.00928, section 3.1): how much of each token reaches each position through all
/// layers, float32 [T, T] with rows that add up to 1. The product over the layers, the first one rightmost, of
/// (mean over heads + identity) / 2; a layer may have other heads than the first (Gpt2Config::pruned_heads). Throws ArgumentError for no
/// layers, ShapeError.
Tensor attention_rollout(std::span<const Tensor> attentions);

}  // namespace gpt
