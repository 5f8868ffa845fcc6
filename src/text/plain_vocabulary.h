// The tokens of a vocabulary whose spellings are plain text: of WordPiece and sentencepiece.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"
#include "text/added_tokens.h"

namespace gpt {

/// Ids without a token are possible. Spellings stay where they are once all tokens are added.
class PlainVocabulary {
 public:
  static constexpr TokenId kMaxId = (1 << 21) - 1;  // as the byte-level BPE's

  struct Token {
    std::string spelling;
    std::string bytes;  // what it stands for inside a text
    bool special = false;
    bool in_use = false;
    bool added = false;  // found in the text as it is written
  };

  /// Gives the next id to a token. Of equal spellings the last counts for find().
  void append(std::string spelling, std::string bytes);

  /// Adds the added tokens, with ids resolved as AddedToken::id says, and makes them known to `finder`. Throws FormatError
  /// naming the token and its source, or `source` where it has none.
  void add(std::vector<AddedToken>& tokens, std::string_view source, AddedTokenFinder& finder);

  /// For an id in use.
  void set_bytes(TokenId id, std::string bytes) {
    tokens_[static_cast<std::size_t>(id)].bytes = std::move(bytes);
  }

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(tokens_.size()); }
  bool has(TokenId id) const noexcept {
    return id >= 0 && id < size() && tokens_[static_cast<std::size_t>(id)].in_use;
  }
  /// Throws ArgumentError naming `operation` and an id that is not in use.
  const Token& at(TokenId id, std::string_view operation) const;
  std::optional<TokenId> find(std::string_view spelling) const;
  bool is_special(TokenId id) const noexcept {
    return has(id) && tokens_[static_cast<std::size_t>(id)].special;
  }

  void add_to(Fingerprint& fingerprint) const;

 private:
  void add_one(AddedToken& token, std::string_view vocab_source);

  std::vector<Token> tokens_;
  std::map<std::string, TokenId, std::less<>> ids_;
};

/// Adds what tells two lists of added tokens apart.
void add_to(Fingerprint& fingerprint, const std::vector<AddedToken>& tokens);

/// Throws ArgumentError naming an id that belongs to no token of a vocabulary of `size` ids.
[[noreturn]] void fail_with_token_id(std::string_view operation, TokenId id, std::int64_t size);

}  // namespace gpt
