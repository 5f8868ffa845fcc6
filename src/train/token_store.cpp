#include "train/token_store.h"

#include <utility>

#include "core/fingerprint.h"

namespace gpt {

TokenStore::TokenStore(std::vector<TokenId> tokens)
    : TokenStore(std::make_shared<const std::vector<TokenId>>(std::move(tokens))) {}

TokenStore::TokenStore(const std::shared_ptr<const std::vector<TokenId>>& tokens)
    : TokenStore(tokens, std::as_bytes(std::span(*tokens)), sizeof(TokenId)) {}

TokenStore::TokenStore(std::shared_ptr<const void> owner, std::span<const std::byte> bytes, std::size_t width)
    : owner_(std::move(owner)),
      data_(bytes.data()),
      width_(width),
      size_(static_cast<std::int64_t>(bytes.size() / width)),
      fingerprint_(compute_fingerprint()) {}

// f(pointer to the first token)
template <class F>
void TokenStore::visit(F f) const {
  const void* data = data_;
  if (width_ == 2)
    f(static_cast<const std::uint16_t*>(data));
  else
    f(static_cast<const TokenId*>(data));
}

std::vector<TokenId> TokenStore::copy(std::int64_t begin, std::int64_t count) const {
  std::vector<TokenId> out;
  visit([&](const auto* tokens) { out.assign(tokens + begin, tokens + begin + count); });
  return out;
}

std::uint64_t TokenStore::compute_fingerprint() const noexcept {
  Fingerprint all;
  visit([&](const auto* tokens) {
    for (std::int64_t i = 0; i < size_; ++i) all.add(tokens[i]);
  });
  return all.value();
}

}  // namespace gpt
