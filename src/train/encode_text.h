// Encoding a text of any size in parts.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <stop_token>
#include <string_view>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"
#include "gpt/train/dataset.h"

namespace gpt {

struct EncodeTextOptions {
  bool parse_special_tokens = false;
  DatasetProgressCallback on_progress = {};
  std::stop_token stop = {};
  std::size_t part_bytes = std::size_t{1}
                           << 18;  // about the size of the parts; longer where the tokenizer knows no cut
};

/// Hands the tokens of the text to `sink`, some after another, without the template's tokens: those of
/// tokenizer.encode(text), whatever the size of the parts and the number of threads. Memory is needed for a few parts
/// per thread. Throws what encode and sink throw; CancelledError naming `where`.
void encode_text(std::string_view text, const Tokenizer& tokenizer, const EncodeTextOptions& options,
                 std::string_view where, const std::function<void(std::span<const TokenId>)>& sink);

}  // namespace gpt
