// The matrix product with everything that follows it.
#pragma once

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/weight.h"

namespace gpt::ops {

/// What is done to a product before it is stored; empty views and kNone leave a step out.
struct LinearEpilogue {
  ConstTensorView bias = {};  // f32, f16 or bf16 [N]
  Activation activation = Activation::kNone;
  ConstTensorView residual = {};  // float32 [M, N]; y itself, or not overlapping it
};

/// y = residual + f(x W + bias).
///   x        float32 [M, K]
///   weight   K inputs, N outputs, in any form
///   y        float32 [M, N], not overlapping x
///   scratch  for rounded activations, or copies of the weight and sums of each thread; given back on return
/// Arithmetic of an element, before + bias, then f, then residual + that:
///   float32, float16, bfloat16   weights widened exactly; one chain of fused multiply-adds over k = 0..K-1 starting at 0
///   int8, int4, weight-only      the same chain over w = scale (q - zero), rounded to float32
///   int8, int4                   every span of the row (64 inputs; 32 with groups of 32, or an asymmetric matrix) rounded to
///                                q_x = rint(x (127 / max|x|)); over the spans in order, from 0,
///                                sum = fma(S, scale * (max|x| / 127), sum), where S is the exact sum of q_x (q - zero)
/// There, a span whose largest magnitude is below 2^-100 counts as zeros, and one that is not finite makes all results of the row
/// NaN. Throws ShapeError, MemoryError; ArgumentError for a quantization that does not exist.
void linear(ConstTensorView x, const Weight& weight, const LinearEpilogue& epilogue, TensorView y,
            Arena& scratch);

/// Where the gradients of a product go; empty views leave one out. dweight and dbias are added to what is there.
struct LinearGradients {
  TensorView dx = {};       // float32 [M, K]
  bool add_to_dx = false;   // else dx is overwritten
  TensorView dweight = {};  // float32, the file shape of the weight
  TensorView dbias = {};    // float32 [N]
};

/// The gradients of y = x W + bias, given the gradient dy of y:
///   dx = dy W^T,  dweight += x^T dy,  dbias += sum of the rows of dy
///   x       float32 [M, K], as in the forward pass; only used for dweight
///   weight  as in the forward pass; only used for dx. In panels, it is widened for the time of the call; the rounding of
///           quantized activations is taken for the identity (Bengio et al., arXiv 1308.3432, section 3.1: straight-through)
///   dy      float32 [M, N]
/// Elements are one chain of fused multiply-adds over n (dx) or over the rows (dweight, dbias), starting at 0, and then
/// added to what is there. Throws ShapeError, MemoryError (dweight may have part of the sum then).
void linear_backward(ConstTensorView x, const Weight& weight, ConstTensorView dy,
                     const LinearGradients& gradients, Arena& scratch);

}  // namespace gpt::ops
