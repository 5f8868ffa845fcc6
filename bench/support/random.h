// Numbers to compute with. Their values do not matter to the time, as long as they are ordinary.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"

namespace gpt::bench {

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): cheaper than CounterRng, and hundreds of millions are wanted.
constexpr std::uint64_t hash(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Uniform in center +- deviation * sqrt(3), so that `deviation` is the standard deviation.
void fill(std::span<float> values, float deviation, float center = 0.0f, std::uint64_t seed = 1);

/// The same in a new tensor, rounded to f32, f16 or bf16.
Tensor random_tensor(const Shape& shape, DType dtype = DType::f32, float deviation = 1.0f);

/// Ids below `vocab_size`.
std::vector<TokenId> random_tokens(std::int64_t count, std::int64_t vocab_size, std::uint64_t seed = 1);

}  // namespace gpt::bench
