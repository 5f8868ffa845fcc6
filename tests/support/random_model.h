// Networks with random weights, for tests that need no checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt/models/gpt2.h"

namespace gpt::test {

/// A network whose weights are pseudo-random numbers of a size that keeps the activations near 1, rounded to
/// `dtype`.
Gpt2 random_network(const Gpt2Config& config, std::uint64_t seed, DType dtype = DType::f32);

/// vocab 97, 32 positions, 2 layers of 2 heads, 16 features.
Gpt2Config tiny_config();

/// A sequence of tokens of such a network; another one for another `first`.
std::vector<TokenId> tokens(std::size_t count, std::size_t first = 3);

}  // namespace gpt::test
