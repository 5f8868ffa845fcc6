// What a model says of the next token, by a forward pass of its own.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/core/token.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::test {

/// The log-probabilities after all of `ids`, in double from the logits.
inline std::vector<double> log_probs_after(const Model& model, const std::vector<TokenId>& ids) {
  Arena arena;
  nn::KvCache cache = model.network().make_cache();
  const Chunk chunk{.ids = ids, .cache = &cache};
  const ForwardOutput output = model.network().forward(std::span(&chunk, 1), arena);
  const auto row = ConstTensorView(output.logits).span<float>();
  double sum = 0.0;
  for (const float logit : row) sum += std::exp(static_cast<double>(logit));
  std::vector<double> log_probs;
  for (const float logit : row) log_probs.push_back(static_cast<double>(logit) - std::log(sum));
  return log_probs;
}

}  // namespace gpt::test
