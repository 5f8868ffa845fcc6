// The largest logits of a row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/evaluate/score.h"

namespace gpt::evaluate {

/// The tokens with the largest logits, of equal ones the lower id first, with the logits in the place of log-probabilities.
inline std::vector<RankedToken> most_probable(std::span<const float> logits, std::size_t count) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), TokenId{0});
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(ids.begin(), end, ids.end(), [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  std::vector<RankedToken> top;
  for (auto id = ids.begin(); id != end; ++id)
    top.push_back({*id, static_cast<double>(logits[static_cast<std::size_t>(*id)])});
  return top;
}

}  // namespace gpt::evaluate
