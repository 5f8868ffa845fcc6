// Token and position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"

namespace gpt::ops {

/// y[r] = wte[ids[r]] + wpe[positions[r]].
///   wte  f32, f16 or bf16 [V, D]    wpe  f32, f16 or bf16 [P, D]    y  float32 [R, D]
/// Throws ShapeError; ArgumentError for an id outside [0, V) or a position outside [0, P).
void embedding(std::span<const TokenId> ids, std::span<const std::int32_t> positions, ConstTensorView wte,
               ConstTensorView wpe, TensorView y);

}  // namespace gpt::ops
