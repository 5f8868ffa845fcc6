// Turns logits that are not numbers into an error that says where they come from.
#pragma once

#include <span>

#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"

namespace gpt::generate {

/// Throws NumericError when the logits after the tokens of `history` hold NaN or +infinity, or -infinity
/// alone. It names the position, the last token and, if there is one, the network's first parameter that is
/// not finite.
void require_finite_logits(std::span<const float> logits, std::span<const TokenId> history,
                           const Gpt2& network);

}  // namespace gpt::generate
