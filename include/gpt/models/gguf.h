// GPT-2 as GGUF files, for llama.cpp. Model::load reads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string_view>

#include "gpt/models/model.h"

namespace gpt {

/// What matrices become: the element types, or the blocks, of gpt/ops/gguf_blocks.h.
enum class GgufWeights : std::uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0 };

/// "float32", "float16", "bfloat16", "q8_0", "q4_0", and back; empty for an unknown name.
std::string_view name_of(GgufWeights weights) noexcept;
std::optional<GgufWeights> gguf_weights_from_name(std::string_view name) noexcept;

struct GgufSaveOptions {
  /// Unset: what they are; int8 and int4, which must be what gguf_block_of allows, as Q8_0 and Q4_0. Biases, layer norms and
  /// position embeddings are float32 in any case, as llama.cpp wants them. Matrices that are Q8_0 or Q4_0 already are written
  /// without loss.
  std::optional<GgufWeights> weights = {};
  /// Store a tied head beside the token embedding, too. llama.cpp of before March 2025 does not load files without it.
  bool write_tied_head = true;
  /// Checked before every tensor.
  std::stop_token stop = {};
};

/// Writes network and tokenizer to a GGUF file of version 3, atomically. Throws UnsupportedError naming what llama.cpp would
/// run wrongly: an activation other than gelu_new, gelu_pytorch_tanh and gelu_fast, scale_attn_weights false,
/// scale_attn_by_inverse_layer_idx true, more than 512 layers, pruned_heads, tokenizers that it has not (see README), and with
/// a tokenizer no or several eos_token_id in the vocabulary (of generation_config.json where it has the key, null included, or
/// else of config.json: align_special_tokens makes it the tokenizer's); an eos_token_id or bos_token_id in the vocabulary that is
/// no token of the tokenizer, which loading refuses; matrices that no block type holds. FormatError for an eos_token_id in
/// generation_config.json that is no integer. NumericError for weights beyond float16's range; IoError as AtomicFile; ShapeError
/// for a network whose weights were never set; MemoryError; CancelledError.
/// Ids are the model's. Without a bos_token_id in the vocabulary, which nothing uses, it is the tokenizer's or else the
/// eos_token_id; without a tokenizer there are none.
void save_gguf(const Model& model, const std::filesystem::path& path, const GgufSaveOptions& options = {});

}  // namespace gpt
