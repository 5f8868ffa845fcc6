// A training run that takes a moment.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gpt/models/model.h"
#include "gpt/train/text_dataset.h"
#include "gpt/train/trainer.h"
#include "support/random_model.h"
#include "support/random_tensor.h"

namespace gpt::test {

// Dropout at the default rates.
inline Model small_model(std::uint64_t seed = 1) { return {random_network(tiny_config(), seed), HfConfig()}; }

// Tokens that repeat, so that there is something to learn.
inline TextDataset text(std::int64_t tokens, std::int64_t block_size = 16) {
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<TokenId>(i * i % 23));
  return TextDataset::from_tokens(ids, {.block_size = block_size});
}

inline std::map<std::string, Tensor> weights(const Model& model, std::optional<DType> rounded_to = {}) {
  std::map<std::string, Tensor> all;
  model.network().visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    all.emplace(name, rounded_to ? tensor.to(*rounded_to).clone() : tensor.clone());
  });
  return all;
}

inline bool same(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  for (const auto& [name, tensor] : a)
    if (!same_bits(tensor, b.at(name))) return false;
  return a.size() == b.size();
}

inline TrainingArguments arguments() {
  TrainingArguments a;
  a.learning_rate = 1e-2;
  a.per_device_train_batch_size = 2;
  a.gradient_accumulation_steps = 2;
  a.num_train_epochs = 2.5;
  a.weight_decay = 0.1;
  a.warmup_steps = 3;
  a.logging_steps = 2;
  return a;
}

}  // namespace gpt::test
