// Dropout (Srivastava et al., JMLR 15, 2014), with masks that are computed anew instead of kept.
#pragma once

#include <cstdint>

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// Element i of a tensor stays, multiplied by 1 / (1 - rate), when its 32 random bits are at least rate 2^32; else it becomes
/// 0. The bits are word i % 4 of Philox4x32-10 (core/rng.h) with counter (i / 4, stream) and key seed: the same ones on the way
/// back, on every machine. Every use in a run needs a stream of its own.
struct Dropout {
  float rate = 0;  // 0 <= rate < 1
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

/// y = residual + what stays of x; float32 of one shape, residual may be empty, x may be y. Applied to the gradient of y, without
/// a residual, it gives that of x. Throws ShapeError, ArgumentError for a rate outside [0, 1).
void dropout(ConstTensorView x, const Dropout& dropout, ConstTensorView residual, TensorView y);

}  // namespace gpt::ops
