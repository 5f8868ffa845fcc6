// The matrix product with everything that follows it.
#pragma once

#include "gpt/core/tensor.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/weight.h"

namespace gpt::ops {

/// What is done to a product before it is stored; empty views and kNone leave a step out.
struct LinearEpilogue {
  ConstTensorView bias = {};  // f32, f16 or bf16 [N]
  Activation activation = Activation::kNone;
  ConstTensorView residual = {};  // float32 [M, N]; may be y itself
};

/// y = residual + f(x W + bias).
///   x       float32 [M, K]
///   weight  f32, f16 or bf16, [K, N] or [N, K] as layout says; widened exactly, arithmetic in float32
///   y       float32 [M, N], not overlapping x
/// Arithmetic of an element: one chain of fused multiply-adds over k = 0..K-1 starting at 0, then + bias,
/// then f, then residual + that. Throws ShapeError.
void linear(ConstTensorView x, ConstTensorView weight, WeightLayout layout, const LinearEpilogue& epilogue,
            TensorView y);

}  // namespace gpt::ops
