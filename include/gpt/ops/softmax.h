// Softmax and the logarithms of its results.
#pragma once

#include <span>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"

namespace gpt::ops {

/// y[r] = e^(x[r] - max) / sum, float32 [R, C]; y may be x. A row of nothing but -infinity gives NaN, as in
/// PyTorch. Throws ShapeError.
void softmax(ConstTensorView x, TensorView y);

/// out[r] = log sum_c e^x[r, c], x float32 [R, C], out R numbers. The sum is taken in double. Throws
/// ShapeError.
void log_sum_exp(ConstTensorView x, std::span<double> out);

/// out[r] = log softmax(logits[r])[ids[r]], logits float32 [R, V]. Throws ShapeError, ArgumentError (id
/// outside [0, V)).
void token_log_probs(ConstTensorView logits, std::span<const TokenId> ids, std::span<double> out);

}  // namespace gpt::ops
