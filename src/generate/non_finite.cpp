#include "generate/non_finite.h"

#include <limits>

#include "gpt/core/error.h"
#include "models/non_finite.h"

namespace gpt::generate {

void require_finite_logits(std::span<const float> logits, std::span<const TokenId> history,
                           const Gpt2& network) {
  constexpr float kMax = std::numeric_limits<float>::max();
  bool none_bad = true;
  bool any_finite = false;
  for (const float logit : logits) {
    none_bad &= logit <= kMax;  // false for NaN and infinity
    any_finite |= logit >= -kMax;
  }
  if (none_bad && any_finite) return;
  fail<NumericError>("generate", "the logits at position ", history.size() - 1, " (token id ", history.back(),
                     ") are not finite numbers", non_finite_clause(network));
}

}  // namespace gpt::generate
