// A row of tokens in memory or in a mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

/// Immutable. Tokens lie as unsigned 16-bit or signed 32-bit numbers.
class TokenStore {
 public:
  explicit TokenStore(std::vector<TokenId> tokens);
  /// `bytes` hold tokens of `width` bytes (2 or 4), aligned to it, and live as long as `owner`.
  TokenStore(std::shared_ptr<const void> owner, std::span<const std::byte> bytes, std::size_t width);

  std::int64_t size() const noexcept { return size_; }
  /// Tokens [begin, begin + count).
  std::vector<TokenId> copy(std::int64_t begin, std::int64_t count) const;
  /// A number of the tokens, however they lie.
  std::uint64_t fingerprint() const noexcept { return fingerprint_; }

 private:
  explicit TokenStore(const std::shared_ptr<const std::vector<TokenId>>& tokens);
  template <class F>
  void visit(F f) const;
  std::uint64_t compute_fingerprint() const noexcept;

  std::shared_ptr<const void> owner_;
  const std::byte* data_;
  std::size_t width_;
  std::int64_t size_;
  std::uint64_t fingerprint_;
};

}  // namespace gpt
