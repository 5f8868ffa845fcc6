// The rows of a batch that logits are made of where a text goes on.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/autograd/ops.h"
#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/nn/attention.h"

namespace gpt::nn {

/// The last row of each segment: x [R, D] to [batch.size(), D], in the arena.
inline TensorView last_rows(ConstTensorView x, std::span<const Segment> batch, Arena& arena) {
  const auto ranges = arena.take_span<autograd::RowRange>(batch.size());
  for (std::size_t i = 0; i < ranges.size(); ++i) ranges[i] = {batch[i].row + batch[i].rows - 1, 1};
  const TensorView last = arena.take({static_cast<std::int64_t>(batch.size()), x.dim(1)});
  autograd::take_rows(nullptr, x, ranges, last);
  return last;
}

}  // namespace gpt::nn
