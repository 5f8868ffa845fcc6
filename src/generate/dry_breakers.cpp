#include "generate/dry_breakers.h"

#include <algorithm>
#include <string_view>

#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

// Empty for a number that the tokenizer has no token for.
std::string_view bytes_of(const Tokenizer& tokenizer, TokenId id) {
  try {
    return tokenizer.bytes_of(id);
  } catch (const ArgumentError&) {
    return {};
  }
}

// Empty when the tokenizer cannot encode it: then no tokens make it.
std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text) {
  try {
    return tokenizer.encode(text);
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
  for (const std::string& text : texts) {
    std::vector<std::vector<TokenId>> tails(text.size());  // the tokens of the text from place i on
    for (std::size_t i = 1; i < text.size(); ++i)
      tails[i] = encode(tokenizer, std::string_view(text).substr(i));
    for (TokenId id = 0; id < size; ++id) {
      const std::string_view bytes = bytes_of(tokenizer, id);
      if (bytes.find(text) != bytes.npos) {
        breakers.push_back({id});
        continue;
      }
      for (std::size_t i = 1; i < text.size(); ++i) {
        if (tails[i].empty() || !bytes.ends_with(std::string_view(text).substr(0, i))) continue;
        std::vector<TokenId>& breaker = breakers.emplace_back();
        breaker.push_back(id);
        breaker.insert(breaker.end(), tails[i].begin(), tails[i].end());
      }
    }
  }
  return breakers;
}

}  // namespace gpt::generate
