// Several adapters at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"

namespace gpt {

/// Adapters of one network, each on top of those before it: what the network computes with the first, the second changes, as if
/// they had been merged in this order; but the factors of DoRA are those of the network's own matrices, and are for what was added to the
/// network's own biases. With a weight w, a part makes w times its change: z + w (f(z) - z). Trained, it trains them all.
///
/// PEFT has no such file; this is like PEFT's. adapter_config.json: peft_type "STACKED", adapters {"0": the first part's
/// configuration, ...}, weights {"0": its weight, ...}. adapter_model.safetensors: adapters.0.<name> and so on.
class StackedAdapter final : public nn::Adapter {
 public:
  struct Part {
    std::shared_ptr<nn::Adapter> adapter;
    double weight = 1;
  };

  /// Throws ArgumentError without parts, for parts that are null or of different networks, more than one with virtual tokens, one
  /// of those with a weight other than 1, and a weight that is no number.
  explicit StackedAdapter(std::vector<Part> parts);
  /// Throws as LoraAdapter::load.
  static std::shared_ptr<StackedAdapter> load(const Gpt2& network, const std::filesystem::path& directory,
                                              const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<StackedAdapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~StackedAdapter() override;

  const std::vector<Part>& parts() const noexcept { return parts_; }

  nn::AdaptedShape shape() const noexcept override;
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  std::int64_t virtual_tokens() const noexcept override;
  bool predicts_first_token() const noexcept override;
  void embed_virtual_tokens(nn::Context& context, const ops::Weight& wpe, std::span<const std::int64_t> rows,
                            TensorView x) const override;
  void set_keys_and_values(nn::Context& context, std::int64_t layer, std::span<const std::int64_t> rows,
                           TensorView qkv) const override;
  bool changes_norms() const noexcept override;
  TensorView norm_output(nn::Context& context, nn::NormId id, TensorView y) const override;
  void visit(const Visitor& f) override;
  void visit_state(const Visitor& f) override;
  void begin_training(std::int64_t total_steps) override;
  void add_penalty(std::span<const nn::LearnedTensor> learned) const override;
  void after_update(std::span<const nn::LearnedTensor> learned, const nn::UpdateInfo& update) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

 private:
  struct Stack;
  HfConfig to_hf() const;
  /// Calls f(adapter, its tensors) for every part.
  template <class F>
  void for_parts(std::span<const nn::LearnedTensor> learned, const F& f) const;

  std::vector<Part> parts_;
  std::vector<std::unique_ptr<Stack>> stacks_;  // by LinearId::index; null: no part has any there
};

}  // namespace gpt
