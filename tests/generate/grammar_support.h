// Vocabularies for the tests of grammars.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/models/model.h"
#include "gpt/text/tokenizer.h"
#include "support/random_model.h"

namespace gpt::test {

/// Tokens of these bytes, and behind them the special token "<end>".
class ListTokenizer : public Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> tokens) : bytes_(std::move(tokens)) {
    bytes_.emplace_back("<end>");
  }

  TokenId end() const { return static_cast<TokenId>(bytes_.size()) - 1; }
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(id_of(std::string_view(&c, 1)).value());
    return ids;
  }
  std::string_view bytes_of(TokenId id) const override {
    if (id < 0 || id >= vocab_size()) fail<ArgumentError>("tokenizer", "token id ", id, " is unknown");
    return bytes_[static_cast<std::size_t>(id)];
  }
  std::string_view token_of(TokenId id) const override { return bytes_of(id); }
  std::optional<TokenId> id_of(std::string_view token) const override {
    for (std::size_t i = 0; i < bytes_.size(); ++i)
      if (bytes_[i] == token) return static_cast<TokenId>(i);
    return std::nullopt;
  }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  bool is_special(TokenId id) const override { return id == end(); }
  std::optional<TokenId> bos_token_id() const override { return end(); }
  std::optional<TokenId> eos_token_id() const override { return end(); }
  std::optional<TokenId> pad_token_id() const override { return std::nullopt; }
  std::optional<TokenId> unk_token_id() const override { return std::nullopt; }
  std::uint64_t fingerprint() const override { return bytes_.size(); }
  std::vector<TokenizerFile> files() const override { return {}; }

 private:
  std::vector<std::string> bytes_;
};

/// All bytes, and pieces of JSON, words and characters as a trained vocabulary has them, some of which span what a grammar
/// keeps apart.
inline std::vector<std::string> json_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* text : {"{\"",          "\":",      "\": ",  "\",",          "\", \"",
                           "\"}",          "}}",       "]}",    "\"]",          "[[",
                           "]]",           "},",       "}, {",  "[{",           "true",
                           "false",        "null",     "true,", "nul",          "als",
                           "12",           "345",      "-1",    "0.5",          ".25",
                           "e+",           "1e",       "the",   " the",         " a",
                           "name",         "na",       "me\"",  "value",        "\xc3\xa9",
                           "\xe2\x82\xac", "\xe2\x82", "\xac",  "\xf0\x9f\x98", "\xf0\x9f\x98\x80",
                           "\\n",          "\\\"",     "\\u00", "  ",           "2024-",
                           "-02-",         "@a",       ".com",  "  ",           "ab",
                           "abc",          "b\", \"",  "1, 2",  "[]",           "{}",
                           "\"\"",         "0,",       "00",    "--",           ", "})
    tokens.emplace_back(text);
  return tokens;
}

/// The scores that a processor leaves of zeros, behind `history` of which `prompt_length` tokens are the prompt.
inline std::vector<double> scores_after(const LogitsProcessor& processor, std::size_t vocab_size,
                                        const std::vector<TokenId>& history, std::size_t prompt_length,
                                        std::size_t max_length) {
  std::vector<double> scores(vocab_size, 0.0);
  ProcessorScratch scratch;
  processor.process(scores, {.history = history, .prompt_length = prompt_length, .max_length = max_length},
                    scratch);
  return scores;
}

/// A network with random weights over a tokenizer, whose special token ends texts.
inline Model model_over(std::shared_ptr<const ListTokenizer> tokenizer, std::int64_t n_positions = 192) {
  Gpt2Config config = tiny_config();
  config.vocab_size = tokenizer->vocab_size();
  config.n_positions = n_positions;
  config.eos_token_id = {tokenizer->end()};
  return Model(random_network(config, 1), HfConfig(), std::move(tokenizer));
}

}  // namespace gpt::test
