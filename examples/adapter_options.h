// Adapters on the command line: the one that a model is used with, and the one that is to be trained.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gpt/models/model.h>
#include <gpt/peft/lora.h>

#include "command_line.h"

namespace program {

/// Adds --adapter; the request must outlive the parsing.
void add_adapter_option(App& app, std::optional<std::string>& directory);

/// Attaches the adapter in the directory, if there is one.
void attach_adapter(gpt::Model& model, const std::optional<std::string>& directory);

/// TRL's names.
struct LoraRequest {
  bool use_peft = false;
  std::optional<std::int64_t> r;
  std::optional<double> alpha, dropout;
  std::vector<std::string> target_modules;
  bool use_rslora = false;
};

/// Adds --use-peft, --lora-r and so on.
void add_lora_options(App& app, LoraRequest& request);

/// The adapter that is asked for, if one is. Throws UsageError for an option out of its range, or without --use-peft.
std::optional<gpt::LoraConfig> lora_config(const LoraRequest& request, const std::string& base_model);

}  // namespace program
