// What of a sequence its network has seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "gpt/core/token.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

/// With a sliding window, the tokens between the first `keep` and the last ones that the network does not see when it says
/// what follows `length` tokens: none as long as all fit, else the fewest halves of what stands behind `keep` that must go.
/// A function of these numbers alone, so that a result does not depend on where a prompt ended.
constexpr std::int64_t dropped_tokens(std::int64_t length, std::int64_t n_positions,
                                      std::int64_t keep) noexcept {
  if (length <= n_positions) return 0;
  const std::int64_t half = std::max<std::int64_t>(1, (n_positions - keep) / 2);
  return (length - n_positions + half - 1) / half * half;
}

/// A sequence's cache, and which of its tokens are in there: the first `keep`, then those behind the `dropped` ones.
struct Context {
  nn::KvCache cache;
  std::int64_t fed = 0;  // tokens in the cache
  std::int64_t keep = 0;
  std::int64_t dropped = 0;

  /// Tokens of a sequence of `length` that are still to be fed.
  std::int64_t pending(std::size_t length) const noexcept {
    return static_cast<std::int64_t>(length) - dropped - fed;
  }
  /// Moves the window to where a sequence of `length` tokens needs it. Absolute positions are part of what the cache holds,
  /// so that all behind the first `keep` tokens is fed again.
  void slide(std::size_t length, std::int64_t n_positions) {
    const std::int64_t more = dropped_tokens(static_cast<std::int64_t>(length), n_positions, keep);
    if (more == dropped) return;
    dropped = more;
    fed = std::min(fed, keep);
    if (cache.capacity() > 0) cache.truncate(fed);
  }
  /// The next tokens to feed, at most `most`: neighbours in the sequence.
  std::span<const TokenId> next(std::span<const TokenId> tokens, std::int64_t most) const noexcept {
    const bool before_gap = dropped > 0 && fed < keep;
    const std::int64_t begin = before_gap ? fed : fed + dropped;
    const std::int64_t left = (before_gap ? keep : static_cast<std::int64_t>(tokens.size())) - begin;
    return tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(std::min(left, most)));
  }
};

}  // namespace gpt::generate
