// Byte-level BPE tokenizers in the metadata of GGUF files.
//
//   tokenizer.ggml.model       "gpt2"; "none": the file has no tokenizer
//   tokenizer.ggml.pre         "gpt-2": how text is split
//   tokenizer.ggml.tokens      every token's spelling, by id; of an added token, its text
//   tokenizer.ggml.token_type  1 of the vocabulary, 3 special, 4 added and not special, 5 an id that is not in use
//   tokenizer.ggml.merges      "left right"
//   tokenizer.ggml.{bos,eos,unknown,padding}_token_id, tokenizer.ggml.add_{bos,eos}_token
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "gpt/io/gguf.h"
#include "gpt/models/model.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// Null when the file has none. Throws FormatError naming the key, UnsupportedError naming another kind of tokenizer or way of
/// splitting. One without a name for the latter, as in files of 2023, is GPT-2's; `on_warning` is told.
std::shared_ptr<const Tokenizer> read_gguf_tokenizer(const GgufFile& file,
                                                     const std::function<void(std::string_view)>& on_warning);

/// The id under the key "tokenizer.ggml.<name>_token_id", if there is one. Throws FormatError.
std::optional<TokenId> gguf_token_id(const GgufFile& file, std::string_view name);

/// Writes the tokenizer of a model, or that there is none. Throws UnsupportedError naming `target` and what llama.cpp would do
/// otherwise: tokenizers of another kind, ways of splitting and matching it does not have, tokens beyond the network's
/// vocabulary, no or several eos_token_id in the vocabulary, of generation_config.json or else of config.json; and ids there
/// that are no tokens of the tokenizer, which read_gguf_tokenizer refuses. FormatError as gpt/models/gguf.h says.
void write_gguf_tokenizer(const Model& model, std::string_view target, GgufMetadata& metadata);

}  // namespace gpt
