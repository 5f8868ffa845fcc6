// What is done to each element alone.
#pragma once

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// y += x, float32 of one shape. Throws ShapeError.
void add(ConstTensorView x, TensorView y);

/// y = a + b, float32 of one shape; b may be empty, which copies a; y may be either. Throws ShapeError.
void add(ConstTensorView a, ConstTensorView b, TensorView y);

/// y = factor x, float32 of one shape; y may be x. Throws ShapeError.
void scale(ConstTensorView x, float factor, TensorView y);

}  // namespace gpt::ops
