// What a checkpoint's generation_config.json says.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "gpt/generate/generate_options.h"
#include "gpt/models/model.h"

namespace gpt::generate {

/// What a checkpoint says about generating with it.
struct CheckpointDefaults {
  GenerateOptions options;
  /// "key = value" of a setting that libgpt does not support and that counts when sampling only.
  std::string unsupported_when_sampling;
  std::string source;  // the file's name
};

/// Reads the model's generation_config.json. Throws and warns as Generator's constructor.
CheckpointDefaults read_defaults(const Model& model,
                                 const std::function<void(std::string_view message)>& on_warning);

/// Throws ArgumentError naming the option that holds a token id outside [0, vocab_size); eos_token_id apart, which may in a
/// file.
void check_token_ids(const GenerateOptions& options, std::int64_t vocab_size);

}  // namespace gpt::generate
