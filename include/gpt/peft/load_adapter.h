// Adapters of any method from their files.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"

namespace gpt {

/// Loads the adapter of a directory, whatever the peft_type in its adapter_config.json: LORA, ADALORA, IA3, PROMPT_TUNING,
/// PREFIX_TUNING, BOTTLENECK, BITFIT or STACKED.
/// Throws as their load functions; UnsupportedError for another peft_type.
std::shared_ptr<nn::Adapter> load_adapter(const Gpt2& network, const std::filesystem::path& directory,
                                          const std::function<void(std::string_view)>& on_warning = {});

}  // namespace gpt
