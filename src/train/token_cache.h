// Tokens of a text, kept in a cache file (train/cache_file.h).
//
// Its body:
//        …  the tokens, then zeros up to a whole word
//        8  number of tokens
//        8  fingerprint of the tokens, as TokenStore's
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/token.h"
#include "train/cache_file.h"
#include "train/token_store.h"

namespace gpt {

/// Its version is that of the body, and of how a text becomes tokens.
inline constexpr CacheFormat kTokenCache{"gpttoken", 2, ".tokens"};

/// Null where a body is not well-formed.
std::shared_ptr<const TokenStore> tokens_of(const CacheBody& body);

class TokenCacheWriter {
 public:
  explicit TokenCacheWriter(CacheWriter& file) noexcept : file_(file) {}

  /// Tokens of the vocabulary, the next of the text.
  void append(std::span<const TokenId> tokens);
  /// Makes the body whole. The last call.
  void finish();

 private:
  CacheWriter& file_;
  std::vector<std::uint16_t> narrowed_;
  std::uint64_t count_ = 0;
  Fingerprint fingerprint_;
};

}  // namespace gpt
