// Adapters that change something, and what networks compute with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "gpt/core/rng.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/peft/lora.h"
#include "support/random_model.h"

namespace gpt::test {

/// Adds random numbers to every tensor, those that begin as zeros included.
inline void shake(nn::Adapter& adapter, std::uint64_t seed, double size = 0.3) {
  adapter.visit([&, stream = std::uint64_t{0}](const std::string&, Tensor& tensor, const Shape&) mutable {
    const CounterRng rng(seed, stream++);
    for (std::int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data<float>()[i] += static_cast<float>(size * rng.normal(static_cast<std::uint64_t>(i)));
  });
}

inline std::shared_ptr<LoraAdapter> random_lora(const Gpt2& network, LoraConfig config, std::uint64_t seed) {
  auto adapter = std::make_shared<LoraAdapter>(network, std::move(config), seed);
  shake(*adapter, seed);
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

/// Copies of all tensors of an adapter.
inline std::map<std::string, Tensor> tensors_of(nn::Adapter& adapter) {
  std::map<std::string, Tensor> all;
  adapter.visit(
      [&](const std::string& name, Tensor& tensor, const Shape&) { all.emplace(name, tensor.clone()); });
  return all;
}

}  // namespace gpt::test
