// The tokens of a vocabulary: spellings, bytes, ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/byte_bpe.h"
#include "text/token_table.h"

namespace gpt {

/// vocab and added_tokens of a ByteBpeModel, checked, with their ids resolved.
class Vocabulary {
 public:
  // What a token is.
  static constexpr unsigned kInVocab = 1;      // in the model's vocab, where merges and bytes look
  static constexpr unsigned kSpellsBytes = 2;  // its spelling is GPT-2's of its bytes
  static constexpr unsigned kSpecial = 4;

  /// Sets the ids of model.added_tokens. Throws FormatError.
  explicit Vocabulary(ByteBpeModel& model);

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(entries_.size()); }
  bool has(TokenId id) const noexcept {
    return id >= 0 && id < size() && entries_[static_cast<std::size_t>(id)].spelling.data() != nullptr;
  }
  /// For ids that it has.
  std::string_view spelling(TokenId id) const noexcept {
    return entries_[static_cast<std::size_t>(id)].spelling;
  }
  std::string_view bytes(TokenId id) const noexcept { return entries_[static_cast<std::size_t>(id)].bytes; }
  bool is(TokenId id, unsigned flag) const noexcept {
    return (flags_[static_cast<std::size_t>(id)] & flag) != 0;
  }

  /// The id of any token, or -1.
  TokenId find(std::string_view spelling) const noexcept { return ids_.find(spelling); }
  /// The id of a token of the model's vocab, or -1.
  TokenId find_in_vocab(std::string_view spelling) const noexcept {
    const TokenId id = ids_.find(spelling);
    return id >= 0 && is(id, kInVocab) ? id : -1;
  }

 private:
  struct Entry {
    std::string_view spelling, bytes;  // into text_; no data: the id is not in use
  };

  void reserve(const ByteBpeModel& model);
  void add_from_vocab(const std::string& token, TokenId id, std::string_view source);
  void add_added(AddedToken& token, std::string_view vocab_source);
  std::string_view store(std::string_view text);
  void set(TokenId id, Entry entry, unsigned flags);

  std::string text_;  // reserved once, so that views into it stay valid
  std::vector<Entry> entries_;
  std::vector<std::uint8_t> flags_;
  TokenTable ids_;
};

}  // namespace gpt
