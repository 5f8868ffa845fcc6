// The loss of a language model.
#pragma once

#include <span>

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"

namespace gpt::ops {

/// losses[r] = log sum_c e^logits[r, c] - logits[r, labels[r]], and the logits become the gradient of scale times their sum:
///   logits[r, c] = scale (softmax(logits[r])_c - [c = labels[r]])
///   logits  float32 [R, V]
///   labels  R ids in [0, V)
///   losses  R numbers
/// Throws ShapeError, ArgumentError (a label outside [0, V)), MemoryError.
void cross_entropy(TensorView logits, std::span<const TokenId> labels, float scale, std::span<double> losses,
                   Arena& scratch);

}  // namespace gpt::ops
