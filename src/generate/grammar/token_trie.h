// The tokens of a vocabulary by their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt::generate {

/// A tree of the tokens' bytes with its nodes in depth-first order, so that a walk goes through memory from front to back and
/// leaves out a branch by jumping to its end. Node 0 is the root, the empty text.
class TokenTrie {
 public:
  struct Node {
    std::uint32_t end = 0;          // behind the last node below this one
    std::uint32_t first_token = 0;  // of tokens(): those that end here
    std::uint32_t token_count = 0;
    std::uint16_t depth = 0;
    std::uint8_t byte = 0;  // that leads here
  };

  /// Of tokens with text of their own; others are in no text that a grammar allows. Throws UnsupportedError when the text of a
  /// token depends on its neighbours.
  ///   vocab_size  tokens from this id on are left out
  TokenTrie(const Tokenizer& tokenizer, std::optional<std::int64_t> vocab_size);

  std::span<const Node> nodes() const noexcept { return nodes_; }
  std::span<const TokenId> tokens_at(std::uint32_t node) const noexcept {
    return std::span(tokens_).subspan(nodes_[node].first_token, nodes_[node].token_count);
  }
  bool has_children(std::uint32_t node) const noexcept { return nodes_[node].end > node + 1; }
  std::size_t depth() const noexcept { return depth_; }  // of the deepest node
  /// Of a token with text of its own; else empty.
  std::string_view bytes_of(TokenId id) const noexcept {
    const auto index = static_cast<std::size_t>(id);
    return id < 0 || index + 1 >= bytes_begin_.size()
               ? std::string_view()
               : std::string_view(bytes_).substr(bytes_begin_[index],
                                                 bytes_begin_[index + 1] - bytes_begin_[index]);
  }
  std::size_t vocab_size() const noexcept { return bytes_begin_.size() - 1; }
  /// -1 when no token has text.
  TokenId largest_token() const noexcept { return largest_token_; }
  bool has_same_tokens(const TokenTrie& other) const noexcept {
    return bytes_begin_ == other.bytes_begin_ && bytes_ == other.bytes_ && probe_ == other.probe_;
  }
  /// A token that shows whether it stands where a text begins: its text is shorter there. Unset where there is none.
  std::optional<TokenId> probe() const noexcept { return probe_; }

 private:
  void collect(const Tokenizer& tokenizer, std::int64_t vocab_size);
  void build();

  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::string bytes_;                     // of all tokens, joined
  std::vector<std::size_t> bytes_begin_;  // [vocab_size + 1]
  std::size_t depth_ = 0;
  TokenId largest_token_ = -1;
  std::optional<TokenId> probe_;
};

}  // namespace gpt::generate
