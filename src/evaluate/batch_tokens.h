// How many tokens an evaluation feeds at a time.
#pragma once

#include <cstdint>

namespace gpt::evaluate {

/// Sequences are put together up to so many tokens: enough rows for a matrix product to be fast, few enough for little memory.
/// Results do not depend on it.
inline constexpr std::int64_t kBatchTokens = 2048;

}  // namespace gpt::evaluate
