// The number of a vocabulary entry.
#pragma once

#include <cstdint>

namespace gpt {

using TokenId = std::int32_t;

/// The label of a token that is not to be predicted, as in PyTorch and transformers.
inline constexpr TokenId kIgnoredLabel = -100;

}  // namespace gpt
