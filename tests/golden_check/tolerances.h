// How far the library may be off: README 2.9, 2.4 and 3. The first three are multiplied by s = max(1, largest
// magnitude of the quantity).
#pragma once

namespace gpt::golden {

inline constexpr double kActivationTolerance = 2e-5;  // hidden states, logits, log-probabilities
inline constexpr double kLossTolerance = 1e-5;
inline constexpr double kGradientTolerance = 3e-5;
inline constexpr double kNormTolerance = 5e-5;  // of gradient norms, relative
// Parameters after AdamW: all but one in a thousand, those, and the bias of the keys; the latter two for each step.
inline constexpr double kTrainedTolerance = 2e-5;
inline constexpr double kTrainedOutlierTolerance = 2.2e-3;
inline constexpr double kTrainedKeyTolerance = 1.1e-3;
inline constexpr double kMergedTolerance = 1e-6;       // of a merged adapter's matrices, times s
inline constexpr double kProbabilityTolerance = 1e-9;  // after the sampling filters, which work in double
inline constexpr double kMagnitudeTolerance =
    5e-5;  // of max_abs, times s: a tensor may be off by less, and be well
inline constexpr double kBeamScoreTolerance = 1e-4;
inline constexpr double kScheduleTolerance = 1e-6;
inline constexpr double kRunCeiling = 4e-3;    // and never more than this
inline constexpr double kRunTolerance = 2e-4;  // losses of a recorded training run, relative

}  // namespace gpt::golden
