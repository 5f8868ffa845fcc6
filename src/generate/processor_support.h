// What the logits processors share: the ranges of options, tokens of the vocabulary, what the history holds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "generate/weights.h"
#include "gpt/core/error.h"
#include "gpt/core/token.h"

namespace gpt::generate {

inline double require_finite(const char* option, double value) {
  if (!std::isfinite(value))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a finite number");
  return value;
}

inline double require_positive(const char* option, double value) {
  if (!(value > 0.0) || !std::isfinite(value))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a finite number above 0");
  return value;
}

inline double require_at_least(const char* option, double value, double least) {
  if (!(value >= least) || !std::isfinite(value))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a finite number of at least ", least);
  return value;
}

inline double require_probability(const char* option, double value) {
  if (!(value >= 0.0 && value <= 1.0))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a number from 0 to 1");
  return value;
}

inline std::size_t require_count(const char* option, std::int64_t value) {
  if (value < 0) fail<ArgumentError>("generate", option, " is ", value, ", expected 0 (off) or more");
  return static_cast<std::size_t>(value);
}

/// What an error calls the tokens that stand before.
inline constexpr const char* kHistory = "the history";

/// The place of a token's score. `of` says whose token it is.
inline std::size_t index_of(TokenId id, std::size_t vocab_size, const char* of) {
  if (id < 0 || static_cast<std::size_t>(id) >= vocab_size)
    fail<ArgumentError>("generate", "token id ", id, " of ", of, " is outside the vocabulary [0, ",
                        vocab_size, ")");
  return static_cast<std::size_t>(id);
}

inline void drop(std::span<double> scores, std::span<const TokenId> ids, const char* of) {
  for (const TokenId id : ids) scores[index_of(id, scores.size(), of)] = kDropped;
}

/// The tokens of the history in increasing order. The span lives as long as `ids`.
inline std::span<const TokenId> sorted(std::span<const TokenId> history, std::vector<TokenId>& ids) {
  ids.assign(history.begin(), history.end());
  std::sort(ids.begin(), ids.end());
  return ids;
}

/// Whether the sequence of at least one token would be complete if its last one came next. As in transformers, a sequence of
/// several needs as many tokens before it as it has itself.
inline bool would_complete(std::span<const TokenId> history, std::span<const TokenId> sequence) {
  if (sequence.size() == 1) return true;
  if (sequence.size() > history.size()) return false;
  const auto before = sequence.first(sequence.size() - 1);
  return std::equal(before.begin(), before.end(), history.end() - static_cast<std::ptrdiff_t>(before.size()));
}

}  // namespace gpt::generate
