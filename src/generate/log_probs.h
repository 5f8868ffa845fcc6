// Log-probabilities of a row of logits, for the caller who asks how likely the tokens were.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"

namespace gpt::generate {

/// log softmax of one row, which must outlive this.
class LogProbs {
 public:
  explicit LogProbs(std::span<const float> logits);

  double of(TokenId id) const noexcept {
    return static_cast<double>(logits_[static_cast<std::size_t>(id)]) - log_sum_;
  }

  /// The `count` most probable tokens, best first, of equal ones the lower id.
  std::vector<TokenLogProb> top(std::size_t count) const;

 private:
  std::span<const float> logits_;
  double log_sum_ = 0.0;
};

}  // namespace gpt::generate
