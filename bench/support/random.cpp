#include "bench/support/random.h"

#include <cmath>

namespace gpt::bench {
void fill(std::span<float> values, float deviation, float center, std::uint64_t seed) {
  const std::uint64_t first = hash(seed);
  const float scale = deviation * std::sqrt(3.0f) * 0x1p-31f;
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = center + scale * static_cast<float>(static_cast<std::int32_t>(hash(first + i) >> 32));
}

Tensor random_tensor(const Shape& shape, DType dtype, float deviation) {
  Tensor t = Tensor::empty(shape);
  fill(t.span<float>(), deviation);
  return t.to(dtype);
}

std::vector<TokenId> random_tokens(std::int64_t count, std::int64_t vocab_size, std::uint64_t seed) {
  std::vector<TokenId> ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<TokenId>(hash(hash(seed) + i) % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

}  // namespace gpt::bench
