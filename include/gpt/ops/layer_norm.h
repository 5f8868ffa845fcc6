// Layer normalization (Ba, Kiros, Hinton, arXiv 1607.06450).
#pragma once

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// y = (x - mean) / sqrt(var + epsilon) * gamma + beta over the last axis, var with divisor C.
///   x, y         float32 [R, C]; y may be x
///   gamma, beta  f32, f16 or bf16 [C]
/// Throws ShapeError.
void layer_norm(ConstTensorView x, ConstTensorView gamma, ConstTensorView beta, float epsilon, TensorView y);

}  // namespace gpt::ops
