// Learning the biases alone (BitFit; Ben Zaken et al., arXiv 2106.10199).
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

struct BitFitConfig {
  std::string base_model_name_or_path = {};
};

/// Adds a learned vector to what every dense layer of the blocks and every layer norm gives, the last one included: a change of
/// its bias.
///
/// PEFT has no such method; the files are like PEFT's. adapter_config.json: peft_type "BITFIT". adapter_model.safetensors: for
/// each bias of the network, base_model.model.transformer.h.0.attn.c_attn.bias_delta, of its shape: what is added to it.
class BitFitAdapter final : public nn::Adapter {
 public:
  /// A new one: zeros.
  explicit BitFitAdapter(const Gpt2& network, BitFitConfig config = {});
  /// Throws as LoraAdapter::load.
  static std::shared_ptr<BitFitAdapter> load(const Gpt2& network, const std::filesystem::path& directory,
                                             const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<BitFitAdapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~BitFitAdapter() override;

  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  bool changes_norms() const noexcept override { return true; }
  TensorView norm_output(nn::Context& context, nn::NormId id, TensorView y) const override;
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

  /// Adds the vectors to the biases themselves, which become float32. As LoraAdapter::merge, in a quantized network, too.
  Originals merge(Gpt2& network) const;

 private:
  struct Part;
  BitFitAdapter(const Gpt2& network, BitFitConfig config, std::nullptr_t);
  HfConfig to_hf() const;

  BitFitConfig config_;
  nn::AdaptedShape shape_;
  std::vector<std::unique_ptr<Part>> linears_;  // by LinearId::index
  std::vector<Tensor> norms_;                   // by NormId::index; the last is ln_f's
};

}  // namespace gpt
