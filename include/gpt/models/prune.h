// Making a network smaller by leaving something out: weights, heads, or whole layers.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"

namespace gpt {

/// Which weights of an output matter least.
enum class PruneMethod : std::uint8_t {
  kMagnitude,  // |w|
  kWanda,      // |w| times the L2 norm of its input over a text (Sun et al., arXiv 2306.11695)
};

/// "magnitude" or "wanda".
std::string_view name_of(PruneMethod method) noexcept;
std::optional<PruneMethod> prune_method_from_name(std::string_view name) noexcept;

struct PruneOptions {
  PruneMethod method = PruneMethod::kMagnitude;
  /// The part of the weights of every output of a dense layer that become zero, rounded down; of equal ones the first. 0 to 1.
  double sparsity = 0.5;
  /// Of every `of_each` inputs in a row, keep the `keep` that matter most (2:4), instead of a part of all. 0: not. The inputs at
  /// the end that make no whole group stay. A pattern for which no matrix has a whole group is refused.
  std::int64_t keep = 0, of_each = 0;
  /// For kWanda: a text like those the network will see, some thousand tokens, cut into sequences of n_positions.
  std::span<const TokenId> calibration = {};
  std::stop_token stop = {};
};

struct PrunedMatrix {
  std::string name;
  std::int64_t zeros = 0, weights = 0;
};

/// Sets weights of the blocks' matrices to zero; embeddings, head, biases and layer norms stay. In place, in the type the matrices
/// have. Returns what there is then, in the order of Gpt2::visit. Throws ArgumentError (an option out of its range, kWanda without
/// a text, tokens outside the vocabulary), UnsupportedError naming a quantized matrix, NumericError naming a parameter that is not
/// finite, MemoryError, CancelledError; the network then is what it was.
std::vector<PrunedMatrix> prune(Gpt2& network, const PruneOptions& options);

/// How many weights of the blocks' matrices are zero. Throws UnsupportedError naming a quantized matrix.
std::vector<PrunedMatrix> count_zeros(const Gpt2& network);

/// How much each layer changes what goes through it, over a text: 1 - the mean cosine between a token's hidden state before and
/// after it (block influence: Men et al., arXiv 2403.03853, section 3.1). The layer with the least is missed least. Throws
/// ArgumentError for an empty text, NumericError for hidden states that are not finite, as Gpt2::forward.
std::vector<double> layer_importance(const Gpt2& network, std::span<const TokenId> text,
                                     const std::stop_token& stop = {});

/// The network without some of its layers, sharing the weights of the others. Throws ArgumentError (a layer outside [0,
/// n_layer), given twice, or all of them), UnsupportedError with scale_attn_by_inverse_layer_idx, whose other layers would compute
/// something else, or with an adapter attached.
Gpt2 without_layers(const Gpt2& network, std::span<const std::int64_t> layers);

/// A head of the attention, by the number that it has where none is missing (Gpt2Config::pruned_heads).
struct HeadId {
  std::int64_t layer = 0, head = 0;

  friend auto operator<=>(const HeadId&, const HeadId&) = default;
};
struct HeadImportance {
  HeadId id;
  double importance = 0;
};

/// How much the loss of a text depends on each head that is there, by layer and number (Michel et al., arXiv 1905.10650, section 4.1): the
/// mean over sequences of n_positions tokens of |dL / dm|, m = 1 being a factor of what the head gives, over the L2 norm of these in its
/// layer. Works on packed and quantized networks. Throws ArgumentError for a text of fewer than 2 tokens, UnsupportedError with an
/// adapter attached, NumericError for gradients that are not finite, and as language_model_loss.
std::vector<HeadImportance> head_importance(const Gpt2& network, std::span<const TokenId> text,
                                            const std::stop_token& stop = {});

/// The network without some of its heads, as transformers' prune_heads: their columns of c_attn and their rows of c_proj are gone, and
/// pruned_heads names them. It shares the other weights. Throws ArgumentError (a head that there is not, given twice, or all of a layer),
/// UnsupportedError naming a quantized matrix, or with an adapter attached.
Gpt2 without_heads(const Gpt2& network, std::span<const HeadId> heads);

}  // namespace gpt
