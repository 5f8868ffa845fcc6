// Token and position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/ops/weight.h"

namespace gpt::ops {

/// y[r] = wte[ids[r]] + wpe[positions[r]].
///   wte, wpe  matrices from D to V, and from D to P, in any form but kInOut; a row is what the matrix gives its output
///   y         float32 [R, D]
/// Quantized rows are scale (q - zero), rounded to float32.
/// Throws ShapeError; ArgumentError for an id outside [0, V) or a position outside [0, P).
void embedding(std::span<const TokenId> ids, std::span<const std::int32_t> positions, const Weight& wte,
               const Weight& wpe, TensorView y);

/// dwte[ids[r]] += dy[r], dwpe[positions[r]] += dy[r], in the order of the rows.
///   dy          float32 [R, D]
///   dwte, dwpe  float32 [V, D] and [P, D]; either may be empty
/// Throws as embedding.
void embedding_backward(std::span<const TokenId> ids, std::span<const std::int32_t> positions,
                        ConstTensorView dy, TensorView dwte, TensorView dwpe);

}  // namespace gpt::ops
