// Numbers kept in half the memory: float32 rounded to bfloat16, and what the rounding takes away.
#pragma once

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// y = x, of one shape: from float32 to bfloat16, rounded to nearest even, or from bfloat16 to float32, exactly. Throws
/// ShapeError.
void convert(ConstTensorView x, TensorView y);

/// A float32 number as two of 16 bits: `value` is x rounded to bfloat16, to nearest even, and `rest` the bits of x less those
/// of `value`, both taken as integers:
///   bits of x = 2^16 (bits of value) + rest,  rest in [-2^15, 2^15)
/// The one rest that does not fit, 2^15 (x lies halfway, and value is the one nearer to 0), becomes 2^15 - 1: x loses one unit
/// in its last place then, and rounds to the same value. NaN stays NaN. So a network computes with `value`, while an optimizer
/// learns in float32, in no more memory than float32 takes (as in split SGD: Kalamkar et al., arXiv 1905.12322, section 3;
/// which, however, truncates).
///   x       float32, of any shape
///   value   bfloat16, rest int16, of the shape of x
/// Throws ShapeError.
void split(ConstTensorView x, TensorView value, TensorView rest);
/// The inverse.
void join(ConstTensorView value, ConstTensorView rest, TensorView x);

}  // namespace gpt::ops
