// Models and logits that the tests of files compare.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "gpt/models/gpt2.h"
#include "gpt/models/model.h"
#include "support/random_model.h"

namespace gpt::test {

/// A random network with the config.json that belongs to it.
inline Model model_of(const Gpt2Config& config, DType dtype = DType::f32,
                      std::shared_ptr<const Tokenizer> tokenizer = nullptr) {
  HfConfig file;
  config.to_hf(file);
  return {random_network(config, 1, dtype), std::move(file), std::move(tokenizer)};
}

/// The logits of four tokens, float32 [1, 4, V].
inline Tensor logits_of(const Model& model) {
  const std::int64_t ids[] = {3, 34, 65, 2}, mask[] = {1, 1, 1, 1};
  return logits_of_padded(model.network(), ConstTensorView(ids, {1, 4}), ConstTensorView(mask, {1, 4}));
}

}  // namespace gpt::test
