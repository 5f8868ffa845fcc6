// A head other than the language model's, as the loading and saving of a model's files see it.
#pragma once

#include <functional>
#include <string_view>

#include "gpt/core/tensor.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"

namespace gpt {

struct HeadReader {
  std::string_view tensor;
  /// Reads it, and what config.json says of it.
  std::function<void(const HfConfig& config, const Checkpoint& weights)> read;
};

struct HeadWriter {
  std::string_view tensor;
  ConstTensorView values;
  std::function<void(HfConfig& config)> describe;
};

}  // namespace gpt
