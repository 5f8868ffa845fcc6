// Weight-decomposed low-rank adaptation (Liu et al., arXiv 2402.09353): the columns of W + dW, each with a length that is learned.
#pragma once

#include <mutex>

#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"
#include "gpt/ops/weight.h"

namespace gpt::peft {

/// scaling (B A)^T, [in, out], added to `sum`, float32. A is [r, in], B [out, r], of any weight type.
void add_product(const Tensor& a, const Tensor& b, float scaling, Tensor& sum);

/// The length of each output's weights, in double, rounded: sqrt(sum over i of w_io^2), w float32 [in, out].
Tensor column_norms(const Tensor& w);

/// 1 / |W + scaling (B A)^T| for each output, float32 [out]: what the learned lengths are multiplied by. It is computed again
/// when A, B or the base's matrix are others than before.
class InverseNorms {
 public:
  Tensor of(const ops::Weight& weight, const ops::Weight& a, const ops::Weight& b, float scaling) const;

 private:
  mutable std::mutex mutex_;  // an adapter may be used by several threads
  mutable Tensor base_;       // kept, so that another one is at another address
  mutable std::uint64_t fingerprint_ = 0;
  mutable Tensor inverse_;
};

}  // namespace gpt::peft
