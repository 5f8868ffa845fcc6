// A small model with a tokenizer that needs no files, for the tests of generation.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/models/model.h"
#include "gpt/text/tokenizer.h"
#include "support/random_model.h"

namespace gpt::test {

/// What most generations here go on from.
inline const std::vector<TokenId> kPrompt = {3, 1, 4, 1, 5};

/// 97 tokens: 0..25 are the letters a..z, 26..93 the bytes of "é€" in turn (so that random tokens make broken
/// UTF-8), 94 is "the ", 95 has no bytes, 96 is the special token "<end>". Encodes letters and "the " only.
class TinyTokenizer final : public Tokenizer {
 public:
  TinyTokenizer() {
    constexpr std::string_view kBytes = "\xc3\xa9\xe2\x82\xac";
    for (int i = 0; i < 26; ++i) bytes_.emplace_back(1, static_cast<char>('a' + i));
    for (int i = 26; i < 94; ++i) bytes_.emplace_back(1, kBytes[static_cast<std::size_t>(i) % kBytes.size()]);
    bytes_.insert(bytes_.end(), {"the ", "", "<end>"});
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) {
      const bool the = text.starts_with("the ");
      if (!the && (text[0] < 'a' || text[0] > 'z'))
        fail<ArgumentError>("tokenizer", "no token for this text");
      ids.push_back(the ? 94 : text[0] - 'a');
      text.remove_prefix(the ? 4 : 1);
    }
    return ids;
  }
  std::string_view bytes_of(TokenId id) const override {
    if (id < 0 || id >= vocab_size()) fail<ArgumentError>("tokenizer", "token id ", id, " is unknown");
    return bytes_[static_cast<std::size_t>(id)];
  }
  std::string_view token_of(TokenId id) const override { return bytes_of(id); }
  std::optional<TokenId> id_of(std::string_view) const override { return std::nullopt; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  bool is_special(TokenId id) const override { return id == 96; }
  std::optional<TokenId> bos_token_id() const override { return 96; }
  std::optional<TokenId> eos_token_id() const override { return 96; }
  std::optional<TokenId> pad_token_id() const override { return std::nullopt; }
  std::optional<TokenId> unk_token_id() const override { return std::nullopt; }
  std::uint64_t fingerprint() const override { return 1; }
  std::vector<TokenizerFile> files() const override { return {}; }

 private:
  std::vector<std::string> bytes_;
};

/// gpt::testing::tiny_config() without an eos token, so that generations have a known length.
inline Gpt2Config endless_config() {
  Gpt2Config config = tiny_config();
  config.eos_token_id.clear();
  return config;
}

inline Model tiny_model(const Gpt2Config& config = endless_config(),
                        std::optional<std::string_view> generation_config = std::nullopt) {
  std::optional<HfConfig> file;
  if (generation_config) file = HfConfig::parse(*generation_config, "generation_config.json");
  return Model(random_network(config, 1), HfConfig(), std::make_shared<TinyTokenizer>(), std::move(file));
}

/// Without an eos token, and with this generation_config.json.
inline Model with_file(std::string_view generation_config) {
  return tiny_model(endless_config(), generation_config);
}

inline Model tiny_model_without_tokenizer() { return Model(random_network(endless_config(), 1), HfConfig()); }

}  // namespace gpt::test
