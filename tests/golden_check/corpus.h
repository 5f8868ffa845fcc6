// Losses over the text corpus: README 5.
#pragma once

#include <filesystem>
#include <vector>

#include "expected.h"
#include "gpt/models/model.h"
#include "gpt/text/tokenizer.h"

namespace gpt::golden {

/// The first 90 % of a text's characters (floor), and the rest; each encoded whole.
struct Corpus {
  std::vector<TokenId> train;
  std::vector<TokenId> validation;
};
Corpus read_corpus(const std::filesystem::path& file, const Tokenizer& tokenizer);

/// The mean loss over the first `count` windows: the tokens [begin, begin + window], each but the first
/// predicted from those before it, begin = 0, window, 2 window, ...
double mean_window_loss(const Gpt2& network, std::span<const TokenId> tokens, std::size_t window,
                        std::size_t count);

/// Rules for val.json's val_loss (over all windows of `window` tokens) and val_tokens.
std::vector<Rule> validation_rules(const Model& model, const std::filesystem::path& corpus);

}  // namespace gpt::golden
