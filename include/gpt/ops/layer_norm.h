// Layer normalization (Ba, Kiros, Hinton, arXiv 1607.06450).
#pragma once

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"

namespace gpt::ops {

/// y = (x - mean) / sqrt(var + epsilon) * gamma + beta over the last axis, var with divisor C.
///   x, y         float32 [R, C]; y may be x
///   gamma, beta  f32, f16 or bf16 [C]
/// Throws ShapeError.
void layer_norm(ConstTensorView x, ConstTensorView gamma, ConstTensorView beta, float epsilon, TensorView y);

/// Adds the gradients of layer_norm to what is there, given the gradient dy of its result:
///   x, dy, dx       float32 [R, C], x as in the forward pass; dx may be empty
///   gamma           f32, f16 or bf16 [C]
///   dgamma, dbeta   float32 [C]; either may be empty
/// With n = (x - mean) / sqrt(var + epsilon) and g = dy gamma:
///   dx += (g - mean(g) - n mean(g n)) / sqrt(var + epsilon), means over a row;  dgamma += sum dy n,  dbeta += sum dy over rows,
/// each of these sums one chain in the order of the rows. Throws ShapeError, MemoryError.
void layer_norm_backward(ConstTensorView x, ConstTensorView gamma, float epsilon, ConstTensorView dy,
                         TensorView dx, TensorView dgamma, TensorView dbeta, Arena& scratch);

}  // namespace gpt::ops
