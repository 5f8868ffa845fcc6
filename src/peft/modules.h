// The dense layers of a network, as PEFT names them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"

namespace gpt::peft {

/// What PEFT writes before the name of a module.
inline constexpr std::string_view kPrefix = "base_model.model.";
/// And where the adapter is virtual tokens, so that there is no layer of PEFT's around the model.
inline constexpr std::string_view kPromptPrefix = "base_model.";

struct Module {
  nn::LinearId id;
  std::string name;    // transformer.h.0.attn.c_attn
  std::string matrix;  // h.0.attn.c_attn.weight, as Gpt2::visit has it
  std::int64_t in = 0, out = 0;
};

/// h.0.attn.c_attn.bias, as Gpt2::visit has it.
std::string bias_of(const Module& module);

/// All dense layers of the blocks, in the order of LinearId::index.
std::vector<Module> modules_of(const Gpt2& network);

/// Whether `target` is a module's whole name, or its last parts.
bool is_named(std::string_view module, std::string_view target);

/// Those that `targets` name (LoraConfig::target_modules). Throws ArgumentError naming a target that there is none for.
std::vector<Module> targeted(const Gpt2& network, std::span<const std::string> targets);

}  // namespace gpt::peft
