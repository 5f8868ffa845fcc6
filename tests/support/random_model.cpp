#include "support/random_model.h"

#include <cmath>

#include "core/float_environment.h"
#include "core/normal.h"
#include "gpt/core/rng.h"

namespace gpt::test {

Gpt2 random_network(const Gpt2Config& config, std::uint64_t seed, DType dtype) {
  Gpt2 network(config);
  std::uint64_t stream = 0;
  network.visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    const CounterRng rng(seed, stream++);
    // Matrices [in, out] by their inputs; the embeddings are [entries, features].
    const bool embedding =
        name.starts_with("wte.") || name.starts_with("wpe.") || name.starts_with("lm_head.");
    const auto fan_in = static_cast<double>(shape.rank() == 2 ? shape[embedding ? 1 : 0] : 100);
    const double center = name.ends_with("weight") && shape.rank() == 1 ? 1.0 : 0.0;
    Tensor values = Tensor::empty(shape);
    const DefaultFloatEnvironment environment;
    std::uint64_t i = 0;
    for (float& v : values.span<float>())
      v = static_cast<float>(center + 1.5 / std::sqrt(fan_in) * normal_here(rng, i++));
    tensor = values.to(dtype);
  });
  return network;
}

Gpt2Config tiny_config() {
  Gpt2Config c;
  c.vocab_size = 97;
  c.n_positions = 32;
  c.n_embd = 16;
  c.n_layer = 2;
  c.n_head = 2;
  c.bos_token_id = 96;
  c.eos_token_id = {96};
  return c;
}

std::vector<TokenId> tokens(std::size_t count, std::size_t first) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<TokenId>((first + 31 * i) % 97);
  return ids;
}

}  // namespace gpt::test
