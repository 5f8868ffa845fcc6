// GPT-2's hyperparameters, under the names of Hugging Face's config.json.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/ops/activation.h"

namespace gpt {

class HfConfig;

struct Gpt2Config {
  std::int64_t vocab_size = 50257;
  std::int64_t n_positions = 1024;
  std::int64_t n_embd = 768;
  std::int64_t n_layer = 12;
  std::int64_t n_head = 12;
  std::int64_t n_inner = 0;  // 0 (null in the file): 4 n_embd
  ops::Activation activation_function = ops::Activation::kGeluNew;
  float layer_norm_epsilon = 1e-5f;
  float initializer_range = 0.02f;
  float resid_pdrop = 0.1f;  // the three dropout rates act in training only
  float embd_pdrop = 0.1f;
  float attn_pdrop = 0.1f;
  bool scale_attn_weights = true;
  bool scale_attn_by_inverse_layer_idx = false;
  bool reorder_and_upcast_attn = false;  // the same mathematics in float32, which is used anyway
  bool tie_word_embeddings = true;
  std::optional<TokenId> bos_token_id = 50256;
  std::vector<TokenId> eos_token_id = {50256};  // one, several or none
  std::optional<TokenId> pad_token_id = {};
  /// The heads that layers do not have any more, by their numbers of 0 to n_head - 1, in order: c_attn and c_proj are so much smaller there
  /// (transformers' prune_heads).
  std::map<std::int64_t, std::vector<std::int64_t>> pruned_heads = {};

  std::int64_t inner_dim() const noexcept { return n_inner > 0 ? n_inner : 4 * n_embd; }
  std::int64_t head_dim() const noexcept { return n_embd / n_head; }
  /// The numbers of the heads of a layer, and how many they are.
  std::vector<std::int64_t> heads_left(std::int64_t layer) const;
  std::int64_t heads_of(std::int64_t layer) const noexcept;

  /// Reads a config.json. A missing key has its default above. Calls on_warning (when set) once for every key
  /// that libgpt does not know, and for an eos_token_id outside the vocabulary, which ends no text. Throws FormatError (wrong type), UnsupportedError (a key whose value would
  /// change the result in a way libgpt does not compute, by its name), and as validate().
  static Gpt2Config from_hf(const HfConfig& file,
                            const std::function<void(std::string_view)>& on_warning = {});

  /// Writes these values into a config.json, leaving its other keys as they are. A pad_token_id that there is none of is written
  /// as null where the file has the key, else left out.
  void to_hf(HfConfig& file) const;

  /// Throws ArgumentError naming the first value that no network can have.
  void validate() const;
};

}  // namespace gpt
