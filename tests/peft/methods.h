// Every method of parameter-efficient tuning, for the tests that hold for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/peft/adalora.h"
#include "gpt/peft/bitfit.h"
#include "gpt/peft/bottleneck.h"
#include "gpt/peft/ia3.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"
#include "gpt/peft/stacked.h"
#include "peft/adapted_runs.h"

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
      {"dora",
       [](const Gpt2& n, std::uint64_t seed) {
         return made<LoraAdapter>(n, seed,
                                  LoraConfig{.r = 4, .target_modules = {"all-linear"}, .use_dora = true});
       }},
      {"adalora",
       [](const Gpt2& n, std::uint64_t seed) {
         return made<AdaLoraAdapter>(
             n, seed, AdaLoraConfig{.init_r = 6, .target_r = 3, .target_modules = {"c_attn", "c_proj"}});
       }},
      {"ia3",
       [](const Gpt2& n, std::uint64_t) -> std::shared_ptr<nn::Adapter> {
         return std::make_shared<Ia3Adapter>(n, Ia3Config());
       }},
      {"bottleneck",
       [](const Gpt2& n, std::uint64_t seed) {
         return made<BottleneckAdapter>(n, seed, BottleneckConfig{.bottleneck_size = 5});
       }},
      {"bitfit",
       [](const Gpt2& n, std::uint64_t) -> std::shared_ptr<nn::Adapter> {
         return std::make_shared<BitFitAdapter>(n);
       }},
      {"stacked",
       [](const Gpt2& n, std::uint64_t seed) -> std::shared_ptr<nn::Adapter> {
         return std::make_shared<StackedAdapter>(std::vector<StackedAdapter::Part>{
             {made<LoraAdapter>(n, seed, LoraConfig{.r = 2, .target_modules = {"all-linear"}}), 0.5},
             {std::make_shared<Ia3Adapter>(n, Ia3Config()), 0.75},
             {made<PromptTuning>(n, seed, VirtualTokensConfig{.num_virtual_tokens = 2})},
             {made<BottleneckAdapter>(n, seed, BottleneckConfig{.bottleneck_size = 3}), 1.5},
             {std::make_shared<BitFitAdapter>(n), 0.5}});
       }},
  };
}

/// One that has learned something: random numbers on top of what it begins with.
inline std::shared_ptr<nn::Adapter> learned_adapter(const Method& method, const Gpt2& network,
                                                    std::uint64_t seed) {
  auto adapter = method.fresh(network, seed);
  shake(*adapter, seed, 0.2);
  return adapter;
}

}  // namespace gpt::test
