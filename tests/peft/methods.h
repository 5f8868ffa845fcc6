// Every method of parameter-efficient tuning, for the tests that hold for all of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"

namespace gpt::test {

struct Method {
  std::string name;
  std::shared_ptr<nn::Adapter> (*fresh)(const Gpt2& network, std::uint64_t seed);

  friend std::ostream& operator<<(std::ostream& out, const Method& method) { return out << method.name; }
};

template <class T, class... Configs>
std::shared_ptr<nn::Adapter> made(const Gpt2& network, std::uint64_t seed, Configs... configs) {
  return std::make_shared<T>(network, configs..., seed);
}

inline std::vector<Method> methods() {
  return {
      {"lora",
       [](const Gpt2& n, std::uint64_t seed) { return made<LoraAdapter>(n, seed, LoraConfig{.r = 4}); }},
      {"prompt_tuning",
       [](const Gpt2& n, std::uint64_t seed) {
         return made<PromptTuning>(n, seed, VirtualTokensConfig{.num_virtual_tokens = 5});
       }},
      {"prefix_tuning",
       [](const Gpt2& n, std::uint64_t seed) {
         return made<PrefixTuning>(n, seed, VirtualTokensConfig{.num_virtual_tokens = 3});
       }},
  };
}

/// One that has learned something: random numbers on top of what it begins with.
inline std::shared_ptr<nn::Adapter> learned_adapter(const Method& method, const Gpt2& network,
                                                    std::uint64_t seed) {
  auto adapter = method.fresh(network, seed);
  std::uint64_t stream = 0;
  adapter->visit([&](const std::string&, Tensor& tensor, const Shape&) {
    const CounterRng rng(seed, stream++);
    for (std::int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data<float>()[i] += static_cast<float>(0.2 * rng.normal(static_cast<std::uint64_t>(i)));
  });
  return adapter;
}

/// Logits of every token of one sequence, fed in chunks of `step`.
inline Tensor logits_with(const Gpt2& network, const nn::Adapter* adapter, std::span<const TokenId> ids,
                          std::size_t step, DType dtype = DType::f32) {
  nn::KvCache cache = network.make_cache(0, dtype, adapter);
  Arena arena;
  Tensor out = Tensor::empty({static_cast<std::int64_t>(ids.size()), network.config().vocab_size});
  float* to = out.data<float>();
  for (std::size_t at = 0; at < ids.size(); at += step) {
    arena.reset();
    const Chunk chunk{ids.subspan(at, std::min(step, ids.size() - at)), &cache, adapter};
    const TensorView logits = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll}).logits;
    to = std::copy_n(logits.data<float>(), logits.numel(), to);
  }
  return out;
}

}  // namespace gpt::test
