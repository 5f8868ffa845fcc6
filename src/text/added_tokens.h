// Finding added tokens in a text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/byte_bpe.h"

namespace gpt {

/// The stretches and tokens of a text, in order, as the tokenizers library cuts it: at each place from left
/// to right the longest token, those that are not `normalized` first, the others in what lies between.
class AddedTokenFinder {
 public:
  static constexpr std::size_t kMaxLength = 1024;  // bounds the time to n times this

  /// An added token, or (id -1) a stretch of the text between them.
  struct Part {
    std::string_view text;
    TokenId id;
  };

  /// `token.id` must be set, its content not empty and not longer than kMaxLength.
  void add(const AddedToken& token);

  /// Special tokens are left in the stretches unless `parse_special`. Adds to `*stripped` how many characters the strips looked at,
  /// four times those of the text at most.
  std::vector<Part> split(std::string_view text, bool parse_special, std::size_t* stripped = nullptr) const;

  /// True when a token's content stands in the text so that it ends at `at`, begins there or reaches across, or would
  /// once the text goes on. Where none does, and the character before `at` is not white space, split() of the two
  /// sides finds what split() of the whole does: no match, no look at a neighbour for single_word and no strip crosses
  /// the place, since strips end at the character before it. 0 < at < text.size().
  bool touches(std::string_view text, std::size_t at) const;

 private:
  struct Token {
    TokenId id;
    bool special, lstrip, rstrip, single_word;
  };
  struct Match {
    std::size_t begin = 0, end = 0;
    const Token* token = nullptr;
  };
  /// Tokens of one pass, as a tree of bytes.
  class Pass {
   public:
    void add(const AddedToken& token);
    void split(std::string_view text, bool parse_special, std::vector<Part>& out,
               std::size_t& stripped) const;
    bool touches(std::string_view text, std::size_t at) const;

   private:
    Match find(std::string_view text, std::size_t from) const;

    std::vector<Token> tokens_;
    std::array<bool, 256> begins_{};
    std::unordered_map<std::uint64_t, std::uint32_t> child_;  // by node and byte; node 0 is the root
    std::vector<std::int32_t> token_at_{-1};                  // by node: index into tokens_
    std::size_t longest_ = 0;
    bool all_special_ = true;
  };

  Pass verbatim_, normalized_;
};

}  // namespace gpt
