// A row of tokens in memory or in a mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

/// Immutable. Tokens lie as unsigned 16-bit or signed 32-bit numbers. Their fingerprint is the Fingerprint to which one token after
/// another was added, however they lie: who makes them adds them up on the way.
class TokenStore {
 public:
  TokenStore(std::vector<TokenId> tokens, std::uint64_t fingerprint);
  /// `bytes` hold tokens of `width` bytes (2 or 4), aligned to it, and live as long as `owner`.
  TokenStore(std::shared_ptr<const void> owner, std::span<const std::byte> bytes, std::size_t width,
             std::uint64_t fingerprint) noexcept;

  std::int64_t size() const noexcept { return size_; }
  /// Tokens [begin, begin + count).
  std::vector<TokenId> copy(std::int64_t begin, std::int64_t count) const;
  std::uint64_t fingerprint() const noexcept { return fingerprint_; }

 private:
  std::shared_ptr<const void> owner_;
  const void* data_;
  std::size_t width_;
  std::int64_t size_;
  std::uint64_t fingerprint_;
};

}  // namespace gpt
