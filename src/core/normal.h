// Normal random numbers in bulk.
#pragma once

#include <cstdint>

#include "gpt/core/rng.h"

namespace gpt {

/// rng.normal(index), for callers that are in the default floating-point environment: to change it takes longer than the number.
double normal_here(const CounterRng& rng, std::uint64_t index) noexcept;

}  // namespace gpt
