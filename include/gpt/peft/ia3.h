// Infused adapters by inhibiting and amplifying inner activations (IA3; Liu et al., arXiv 2205.05638), in PEFT's files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/peft/merge.h"

namespace gpt {

/// The names and defaults of PEFT's IA3Config for gpt2. Modules are named as in LoraConfig::target_modules.
struct Ia3Config {
  std::vector<std::string> target_modules = {"c_attn", "mlp.c_proj"};
  /// Those of them whose input is scaled, and not what they give.
  std::vector<std::string> feedforward_modules = {"mlp.c_proj"};
  std::string base_model_name_or_path = {};
};

/// y = l (x W + b), element by element, or (l x) W + b in feedforward modules; l is learned.
class Ia3Adapter final : public nn::Adapter {
 public:
  /// A new one: all l are 1. Throws ArgumentError for a target that the network has no layer for, and a feedforward module that
  /// is no target.
  Ia3Adapter(const Gpt2& network, Ia3Config config);
  /// PEFT's directory. Throws as LoraAdapter::load.
  static std::shared_ptr<Ia3Adapter> load(const Gpt2& network, const std::filesystem::path& directory,
                                          const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<Ia3Adapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~Ia3Adapter() override;

  const Ia3Config& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  /// base_model.model.transformer.h.0.attn.c_attn.ia3_l [out, 1], of feedforward modules [1, in].
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

  /// Scales the matrices and biases themselves, which become float32. As LoraAdapter::merge.
  Originals merge(Gpt2& network) const;

 private:
  struct Part;
  Ia3Adapter(const Gpt2& network, Ia3Config config, std::nullptr_t);
  HfConfig to_hf() const;

  Ia3Config config_;
  nn::AdaptedShape shape_;
  std::vector<std::unique_ptr<Part>> parts_;  // by LinearId::index; null: not a target
};

}  // namespace gpt
