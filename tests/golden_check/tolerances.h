// How far the library may be off: README 2.9, 2.4 and 3. The first three are multiplied by s = max(1, largest
// magnitude of the quantity).
#pragma once

namespace gpt::golden {

inline constexpr double kActivationTolerance = 2e-5;  // hidden states, logits, log-probabilities
inline constexpr double kLossTolerance = 1e-5;
inline constexpr double kProbabilityTolerance = 1e-9;  // after the sampling filters, which work in double

}  // namespace gpt::golden
