// Random numbers that adapters begin with.
#pragma once

#include <cstdint>

#include "gpt/core/tensor.h"

namespace gpt::peft {

/// Streams of an adapter's tensors begin here: far from those that training takes from the same seed.
inline constexpr std::uint64_t kFirstStream = std::uint64_t{14} << 60;

/// Normal numbers, mean 0; `number` is the tensor's among those of the adapter. float32.
void fill_normal(Tensor& tensor, double deviation, std::uint64_t seed, std::uint64_t number);
/// Uniform in [-bound, bound).
void fill_uniform(Tensor& tensor, double bound, std::uint64_t seed, std::uint64_t number);

}  // namespace gpt::peft
