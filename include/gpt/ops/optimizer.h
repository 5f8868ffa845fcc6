// What an optimizer does to one parameter.
#pragma once

#include <cstdint>

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// The sum of the squares of all elements, float32 of any shape: in float32 by 16 lanes, every 4096 elements added up in
/// double, in order. Throws ShapeError, MemoryError.
double sum_of_squares(ConstTensorView x);

/// torch.optim.AdamW's names and meaning (Loshchilov, Hutter, arXiv 1711.05101).
struct AdamWStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  double gradient_scale = 1.0;  // the gradient is multiplied by it first: clipping, averaging
  std::int64_t step = 1;        // 1 for the first update
};

/// With g = gradient_scale * gradient and t = step:
///   p = p (1 - learning_rate weight_decay)
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   p = p - (learning_rate / (1 - beta1^t) * m) / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// in float32, the factors of the step computed in double and rounded: the bits of torch.optim.AdamW, where its vectors have fused
/// multiply-adds. All tensors float32 of one shape. A parameter that ops::split has put in two is given as its bfloat16 value and
/// its rest: then p is joined, and what it becomes is split.
/// Throws ShapeError, ArgumentError for a step below 1.
void adamw(TensorView parameter, ConstTensorView gradient, TensorView m, TensorView v, const AdamWStep& step,
           TensorView rest = {});

/// average = decay average + (1 - decay) value, in float32, the last product and the sum as one fma: an exponential moving
/// average. Both float32 of one shape; a value that ops::split has put in two is given with its rest. Throws ShapeError.
void average(ConstTensorView value, TensorView average, double decay, ConstTensorView rest = {});

}  // namespace gpt::ops
