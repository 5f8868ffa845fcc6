// Bottleneck adapters (Houlsby et al., arXiv 1902.00751): small networks inside the blocks.
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
#include "gpt/ops/activation.h"

namespace gpt {

struct BottleneckConfig {
  std::int64_t bottleneck_size = 16;
  ops::Activation non_linearity = ops::Activation::kGeluNew;
  /// The dense layers behind which they stand, named as in LoraConfig::target_modules: as in the paper, those that end the two
  /// halves of a block.
  std::vector<std::string> target_modules = {"attn.c_proj", "mlp.c_proj"};
  std::string base_model_name_or_path = {};
};

/// y = z + up(f(down(z))) where a target gives z, before it is added to the residual: down [m, out], up [out, m], with biases.
///
/// PEFT has no such method; the files are like PEFT's. adapter_config.json: peft_type "BOTTLENECK", bottleneck_size, non_linearity
/// (a name as activation_function has in config.json), target_modules. adapter_model.safetensors: of every target
/// base_model.model.transformer.h.0.attn.c_proj.adapter_down.weight [m, out], ....adapter_down.bias [m],
/// ....adapter_up.weight [out, m], ....adapter_up.bias [out].
class BottleneckAdapter final : public nn::Adapter {
 public:
  /// A new one: down N(0, 0.02), all else zero, so that it changes nothing yet. Throws ArgumentError for an option out of its
  /// range, and a target that the network has no layer for.
  BottleneckAdapter(const Gpt2& network, BottleneckConfig config, std::uint64_t seed = 0);
  /// Throws as LoraAdapter::load.
  static std::shared_ptr<BottleneckAdapter> load(
      const Gpt2& network, const std::filesystem::path& directory,
      const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<BottleneckAdapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~BottleneckAdapter() override;

  const BottleneckConfig& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

 private:
  struct Part;
  BottleneckAdapter(const Gpt2& network, BottleneckConfig config, std::nullptr_t);
  HfConfig to_hf() const;

  BottleneckConfig config_;
  nn::AdaptedShape shape_;
  std::vector<std::unique_ptr<Part>> parts_;  // by LinearId::index; null: not a target
};

}  // namespace gpt
