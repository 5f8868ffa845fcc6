// How the caller's options and the checkpoint's become what a generation runs with.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/logits_processors.h"
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

/// Everything decided: caller, then checkpoint, then the defaults.
struct Settings {
  GenerateOptions options;  // with a value in do_sample, eos_token_id and stop_strings
  LogitsProcessors processors;
  std::string length_source;  // " of FILE" where the checkpoint's file limits the length, for messages
};

/// Throws as Generator::check.
Settings resolve(const GenerateOptions& options, const CheckpointDefaults& defaults, const Model& model);

/// How many tokens may follow a prompt, at least 1. Throws ArgumentError when the context cannot hold the
/// prompt and them.
std::int64_t max_new_tokens(const Settings& settings, std::int64_t prompt_length, std::int64_t n_positions);

}  // namespace gpt::generate
