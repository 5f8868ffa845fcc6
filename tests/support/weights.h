// Weight matrices in all their forms, filled with reproducible pseudo-random elements.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/ops/weight.h"

namespace gpt::test {

/// A plain matrix [in, out] (kInOut) or [out, in] (kOutIn).
ops::Weight plain_weight(const Tensor& values, ops::WeightLayout layout);

ops::Weight random_weight(std::int64_t in, std::int64_t out, ops::WeightLayout layout, DType dtype,
                          std::uint64_t seed);

/// Random quanta, also extreme ones, with random scales of both signs.
ops::Weight random_quantized(std::int64_t in, std::int64_t out, const ops::QuantizationFormat& f,
                             std::uint64_t seed, DType scale_dtype = DType::f16);

/// A name for a failing case.
std::string describe(const ops::Weight& w);

/// A quantized matrix of this size in every form there is.
std::vector<ops::Weight> quantized_weights(std::int64_t in, std::int64_t out, std::uint64_t seed,
                                           bool weight_only);

/// A matrix of this size in every form there is.
std::vector<ops::Weight> weights_in_all_forms(std::int64_t in, std::int64_t out, std::uint64_t seed);

}  // namespace gpt::test
