// What AdaLoRA learns about its ranks beside their numbers.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/core/tensor.h"
#include "gpt/nn/adapter.h"

namespace gpt::peft {

/// Of each number of a tensor, both smoothed; float32 of the tensor's shape.
struct Importance {
  Tensor mean;
  Tensor uncertainty;
};

/// One step of both, from |w g|, g being the gradient times `gradient_scale`.
void smooth(Importance& importance, const nn::LearnedTensor& learned, double gradient_scale, double beta1,
            double beta2);

/// What rank k is worth: E's mean times uncertainty, and the means over A's row and B's column k of theirs. `of` are those of
/// A, B and E.
double rank_value(std::span<const Importance, 3> of, std::int64_t k);

/// Adds the gradient of weight |A A^T - I| (rows) or weight |B^T B - I| to that of the tensor.
void add_orthogonality(const nn::LearnedTensor& learned, bool rows, double weight);

}  // namespace gpt::peft
