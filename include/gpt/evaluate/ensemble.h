// What several classifiers say together.
#pragma once

#include <span>

#include "gpt/core/tensor.h"
#include "gpt/models/classifier.h"

namespace gpt {

/// Logits whose probabilities() are the mean of those of several classifiers (of their values, for kRegression), which is usually better
/// than any of them, if their errors differ: of other seeds, folds or checkpoints.
///   logits        of each classifier: float32 [R, labels], all of one shape
///   temperatures  of each, or none: 1
/// Returns float32 [R, labels]: log p for kSingleLabel, log(p / (1 - p)) for kMultiLabel, of p in double. Throws ShapeError; ArgumentError
/// where there are none, or another number of temperatures, and as probabilities().
Tensor mean_of_probabilities(ProblemType type, std::span<const Tensor> logits,
                             std::span<const double> temperatures = {});

}  // namespace gpt
