#include "train/token_store.h"

#include <utility>

namespace gpt {

TokenStore::TokenStore(std::vector<TokenId> tokens, std::uint64_t fingerprint)
    : width_(sizeof(TokenId)), size_(std::ssize(tokens)), fingerprint_(fingerprint) {
  const auto owner = std::make_shared<const std::vector<TokenId>>(std::move(tokens));
  data_ = owner->data();
  owner_ = owner;
}

TokenStore::TokenStore(std::shared_ptr<const void> owner, std::span<const std::byte> bytes, std::size_t width,
                       std::uint64_t fingerprint) noexcept
    : owner_(std::move(owner)),
      data_(bytes.data()),
      width_(width),
      size_(static_cast<std::int64_t>(bytes.size() / width)),
      fingerprint_(fingerprint) {}

std::vector<TokenId> TokenStore::copy(std::int64_t begin, std::int64_t count) const {
  if (width_ == sizeof(TokenId)) {
    const auto* first = static_cast<const TokenId*>(data_) + begin;
    return {first, first + count};
  }
  const auto* first = static_cast<const std::uint16_t*>(data_) + begin;
  return {first, first + count};
}

}  // namespace gpt
