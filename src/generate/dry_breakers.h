// Texts that end a repetition, as the sequences of tokens in which they may stand.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt::generate {

/// llama.cpp's: a line feed, a colon, a quotation mark and an asterisk.
std::vector<std::string> default_dry_breakers();

/// As llama.cpp: for each text, every token that holds it, by itself; and every token whose end is a beginning of it, followed
/// by the tokens of the rest, encoded without special tokens. Only the first 40 bytes of a text count, and 20 tokens of a rest.
std::vector<std::vector<TokenId>> dry_breakers(const Tokenizer& tokenizer,
                                               std::span<const std::string> texts);

}  // namespace gpt::generate
