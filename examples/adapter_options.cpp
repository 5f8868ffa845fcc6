#include "adapter_options.h"

#include <utility>

#include <gpt/core/error.h>
#include <gpt/peft/load_adapter.h>

#include "program.h"

namespace program {

void add_adapter_option(App& app, std::optional<std::string>& directory) {
  app.add_text("--adapter", directory, "DIR", "Directory of a PEFT adapter that the model is used with");
}

void attach_adapter(gpt::Model& model, const std::optional<std::string>& directory) {
  if (directory) model.network().attach(gpt::load_adapter(model.network(), *directory, warn));
}

void add_lora_options(App& app, LoraRequest& request) {
  app.add_flag("--use-peft", request.use_peft,
               "Train a LoRA adapter instead of the model; OUTPUT_DIR gets the adapter alone");
  app.add_number("--lora-r", request.r, "Its rank (8)", 1).sets("[lora] r");
  app.add_number("--lora-alpha", request.alpha, "What it adds is multiplied by alpha / r (8)");
  app.add_number("--lora-dropout", request.dropout, "Dropout rate of its input (0)");
  app.add_texts("--lora-target-modules", request.target_modules, "NAME",
                "Dense layers that get one: c_attn, attn.c_proj, c_fc, mlp.c_proj, c_proj for both, or "
                "all-linear; may be repeated (c_attn)");
  app.add_flag("--use-rslora", request.use_rslora, "Multiply by alpha / sqrt(r) instead");
}

std::optional<gpt::LoraConfig> lora_config(const LoraRequest& request, const std::string& base_model) {
  if (!request.use_peft) {
    for (const auto& [name, given] : {std::pair("--lora-r", request.r.has_value()),
                                      {"--lora-alpha", request.alpha.has_value()},
                                      {"--lora-dropout", request.dropout.has_value()},
                                      {"--lora-target-modules", !request.target_modules.empty()},
                                      {"--use-rslora", request.use_rslora}})
      if (given) throw UsageError(gpt::concat(name, " needs --use-peft"));
    return std::nullopt;
  }
  gpt::LoraConfig config;
  config.r = request.r.value_or(config.r);
  config.lora_alpha = request.alpha.value_or(config.lora_alpha);
  config.lora_dropout = request.dropout.value_or(config.lora_dropout);
  if (!request.target_modules.empty()) config.target_modules = request.target_modules;
  config.use_rslora = request.use_rslora;
  config.base_model_name_or_path = base_model;
  check_usage([&] { config.validate(); });
  return config;
}

}  // namespace program
