#include "generate/dry_breakers.h"

#include <algorithm>
#include <string_view>

#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

// Of a text and of the tokens behind the first, as in llama.cpp.
constexpr std::size_t kMaxBytes = 40, kMaxTailTokens = 20;

// The first tokens of a text as it stands inside another one. Empty when the tokenizer cannot encode it:
// then no tokens make it.
std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text) {
  try {
    auto ids = tokenizer.encode(text, {.parse_special_tokens = false, .add_special_tokens = false});
    ids.resize(std::min(ids.size(), kMaxTailTokens));
    return ids;
  } catch (const ArgumentError&) {
    return {};
  }
}

}  // namespace

std::vector<std::string> default_dry_breakers() { return {"\n", ":", "\"", "*"}; }

std::vector<std::vector<TokenId>> dry_breakers(const Tokenizer& tokenizer,
                                               std::span<const std::string> texts) {
  std::vector<std::vector<TokenId>> breakers;
  const auto size = static_cast<TokenId>(tokenizer.vocab_size());
  for (const std::string& whole : texts) {
    const std::string_view text = std::string_view(whole).substr(0, kMaxBytes);
    std::vector<std::vector<TokenId>> tails(text.size());  // the tokens of the text from place i on
    for (std::size_t i = 1; i < text.size(); ++i) tails[i] = encode(tokenizer, text.substr(i));
    for (TokenId id = 0; id < size; ++id) {
      if (!tokenizer.has(id)) continue;
      const std::string_view bytes = tokenizer.bytes_of(id);
      if (bytes.find(text) != bytes.npos) {
        breakers.push_back({id});
        continue;
      }
      for (std::size_t i = 1; i < text.size(); ++i) {
        if (tails[i].empty() || !bytes.ends_with(text.substr(0, i))) continue;
        std::vector<TokenId>& breaker = breakers.emplace_back();
        breaker.push_back(id);
        breaker.insert(breaker.end(), tails[i].begin(), tails[i].end());
      }
    }
  }
  return breakers;
}

}  // namespace gpt::generate
