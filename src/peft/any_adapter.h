// Adapters of any method from their configurations.
#pragma once

#include <memory>

#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "peft/adapter_files.h"

namespace gpt::peft {

/// The adapter that a configuration describes, with tensors that are still to be set. Throws as load_adapter.
std::shared_ptr<nn::Adapter> adapter_of(const Gpt2& network, const HfConfig& config,
                                        const OnWarning& on_warning);

}  // namespace gpt::peft
