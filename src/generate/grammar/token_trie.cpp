#include "generate/grammar/token_trie.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

// A token longer than this is white space or a row of dashes: leaving it out costs nothing but a second token.
constexpr std::size_t kMaxTokenBytes = 1024;

/// Asks a Detokenizer what tokens become inside a text.
class Inside {
 public:
  explicit Inside(const Tokenizer& tokenizer) : tokenizer_(tokenizer), decoder_(tokenizer.start_decoding()) {}

  /// Where tokens are no more than their bytes, there is nothing to ask.
  bool is_needed() const noexcept { return decoder_ != nullptr; }

  bool is_shorter_at_the_beginning(TokenId id) { return first(id).size() < tokenizer_.bytes_of(id).size(); }

  /// Whether `id` behind `before` gives its bytes, and leaves `behind` its own.
  bool is_plain(TokenId before, TokenId id, TokenId behind) {
    first(before);
    return gives_its_bytes(id) && gives_its_bytes(behind);
  }

 private:
  bool gives_its_bytes(TokenId id) {
    std::string text;
    decoder_->push(id, text);
    if (text == tokenizer_.bytes_of(id)) return true;
    std::string rest;
    decoder_->flush(rest);
    if (!rest.empty())
      fail<UnsupportedError>("grammar",
                             "the tokenizer's text of a token depends on the tokens beside it, as that of ",
                             quote(tokenizer_.token_of(id)), ": a grammar is not supported");
    return false;
  }
  std::string first(TokenId id) {
    std::string text, rest;
    decoder_->flush(rest);  // begins another text
    decoder_->push(id, text);
    return text;
  }

  const Tokenizer& tokenizer_;
  std::unique_ptr<Detokenizer> decoder_;
};

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer, std::optional<std::int64_t> vocab_size) {
  collect(tokenizer, std::min(tokenizer.vocab_size(), vocab_size.value_or(tokenizer.vocab_size())));
  build();
}

void TokenTrie::collect(const Tokenizer& tokenizer, std::int64_t vocab_size) {
  const std::optional<TokenId> named[] = {tokenizer.bos_token_id(), tokenizer.eos_token_id(),
                                          tokenizer.pad_token_id(), tokenizer.unk_token_id()};
  std::vector<TokenId> texts;
  for (TokenId id = 0; id < vocab_size; ++id) {
    if (!tokenizer.has(id) || tokenizer.is_special(id)) continue;
    if (std::find(std::begin(named), std::end(named), id) != std::end(named)) continue;
    const std::string_view bytes = tokenizer.bytes_of(id);
    if (!bytes.empty() && bytes.size() <= kMaxTokenBytes) texts.push_back(id);
  }
  if (Inside inside(tokenizer); inside.is_needed() && !texts.empty()) {
    for (const TokenId id : texts) {
      if (!inside.is_shorter_at_the_beginning(id)) continue;
      probe_ = id;
      break;
    }
    const TokenId other = probe_.value_or(texts.front());
    std::erase_if(texts, [&](TokenId id) { return !inside.is_plain(other, id, other); });
  }
  if (!texts.empty()) largest_token_ = texts.back();
  tokens_ = std::move(texts);
  bytes_begin_.assign(static_cast<std::size_t>(vocab_size) + 1, 0);
  std::size_t next = 0;
  for (TokenId id = 0; id < vocab_size; ++id) {
    bytes_begin_[static_cast<std::size_t>(id)] = bytes_.size();
    if (next == tokens_.size() || tokens_[next] != id) continue;
    bytes_ += tokenizer.bytes_of(id);
    ++next;
  }
  bytes_begin_.back() = bytes_.size();
}

void TokenTrie::build() {
  // By their bytes, of which the first eight tell most tokens apart; of equal ones the lower id comes first.
  struct Key {
    std::uint64_t head;
    TokenId id;
  };
  std::vector<Key> keys;
  for (const TokenId id : tokens_) {
    Key& key = keys.emplace_back(Key{0, id});
    const std::string_view bytes = bytes_of(id);
    for (std::size_t i = 0; i < 8; ++i)
      key.head = key.head << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u);
  }
  std::sort(keys.begin(), keys.end(), [this](const Key& a, const Key& b) {
    if (a.head != b.head) return a.head < b.head;
    const int order = bytes_of(a.id).compare(bytes_of(b.id));
    return order != 0 ? order < 0 : a.id < b.id;
  });
  std::transform(keys.begin(), keys.end(), tokens_.begin(), [](const Key& key) { return key.id; });
  nodes_.push_back({});
  std::vector<std::uint32_t> path{0};  // the nodes of the last token's bytes
  std::string_view last;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = bytes_of(tokens_[i]);
    const auto shared = static_cast<std::size_t>(
        std::mismatch(bytes.begin(), bytes.end(), last.begin(), last.end()).first - bytes.begin());
    for (; path.size() > shared + 1; path.pop_back())
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
    for (std::size_t depth = shared; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back(
          {.depth = static_cast<std::uint16_t>(depth + 1), .byte = static_cast<std::uint8_t>(bytes[depth])});
    }
    depth_ = std::max(depth_, bytes.size());
    Node& node = nodes_[path.back()];
    if (node.token_count == 0) node.first_token = static_cast<std::uint32_t>(i);
    ++node.token_count;
    last = bytes;
  }
  for (const std::uint32_t open : path) nodes_[open].end = static_cast<std::uint32_t>(nodes_.size());
}

}  // namespace gpt::generate
