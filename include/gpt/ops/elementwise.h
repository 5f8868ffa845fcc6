// What is done to each element alone.
#pragma once

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// y = 0, of any type.
void zero(TensorView y) noexcept;

/// y += x, float32 of one shape. Throws ShapeError.
void add(ConstTensorView x, TensorView y);

/// y = a + b, float32 of one shape; b may be empty, which copies a; y may be either. Throws ShapeError.
void add(ConstTensorView a, ConstTensorView b, TensorView y);

/// y = factor x, float32 of one shape; y may be x. Throws ShapeError.
void scale(ConstTensorView x, float factor, TensorView y);

/// y = x + v in every row.
///   x, y  float32 [R, C]; y may be x
///   v     float32, C elements
/// Throws ShapeError.
void add_columns(ConstTensorView x, ConstTensorView v, TensorView y);

/// y = v x in every row, or y = center + v (x - center), each operation rounded.
///   x, y    float32 [R, C]; y may be x
///   v       float32, C elements
///   center  float32, C elements, or empty
/// Throws ShapeError.
void scale_columns(ConstTensorView x, ConstTensorView v, ConstTensorView center, TensorView y);

/// What flows back through scale_columns to v: dv += the chain over the rows of dy (x - center), starting at 0. Throws ShapeError.
void scale_columns_backward(ConstTensorView x, ConstTensorView center, ConstTensorView dy, TensorView dv);

/// sums += the chain over the rows of x, starting at 0; x [R, C], sums of C elements. Throws ShapeError.
void add_column_sums(ConstTensorView x, TensorView sums);

}  // namespace gpt::ops
