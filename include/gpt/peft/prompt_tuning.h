// Virtual tokens that are learned: prompt tuning (Lester et al., arXiv 2104.08691) and prefix tuning (Li, Liang, arXiv
// 2101.00190), in the files of Hugging Face's PEFT.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// The names and meaning of PEFT's PromptTuningConfig and PrefixTuningConfig.
struct VirtualTokensConfig {
  std::int64_t num_virtual_tokens = 20;
  /// What the base model is called in the files: a path or a name that people find it by.
  std::string base_model_name_or_path = {};
};

/// Learned embeddings [n, D] that stand before the embeddings of every sequence's tokens. They take the positions 0 .. n - 1,
/// and the first places of its cache; sequences are so much shorter at most.
class PromptTuning final : public nn::Adapter {
 public:
  /// A new one: numbers of the size of the network's embeddings, N(0, initializer_range). Throws ArgumentError when that many
  /// virtual tokens leave no place for a token.
  PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::uint64_t seed = 0);
  /// A new one that begins as the embeddings of these tokens, over and over where they are fewer (prompt_tuning_init "TEXT").
  /// Throws ArgumentError also for no tokens and for one that the network does not have.
  PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::span<const TokenId> text);
  /// PEFT's directory: adapter_config.json and adapter_model.safetensors, with the tensor prompt_embeddings. Throws as
  /// LoraAdapter::load.
  static std::shared_ptr<PromptTuning> load(const Gpt2& network, const std::filesystem::path& directory,
                                            const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<PromptTuning> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});

  const VirtualTokensConfig& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId) const noexcept override { return nullptr; }
  std::int64_t virtual_tokens() const noexcept override { return config_.num_virtual_tokens; }
  bool predicts_first_token() const noexcept override { return true; }
  void embed_virtual_tokens(nn::Context& context, const ops::Weight& wpe, std::span<const std::int64_t> rows,
                            TensorView x) const override;
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

 private:
  PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::nullptr_t);
  HfConfig to_hf() const;

  VirtualTokensConfig config_;
  nn::AdaptedShape shape_;
  std::int64_t n_head_;
  ops::Weight embeddings_;  // from D to n
};

/// Learned keys and values of n virtual tokens before every sequence, in every layer: [n, 2 L D], of each layer the key, then
/// the value. Tokens take the positions from n on. Without PEFT's prefix_projection, whose network only training needs.
class PrefixTuning final : public nn::Adapter {
 public:
  /// A new one: N(0, 1), as torch.nn.Embedding begins. Throws as PromptTuning; UnsupportedError for a network with pruned_heads.
  PrefixTuning(const Gpt2& network, VirtualTokensConfig config, std::uint64_t seed = 0);
  /// As PromptTuning. A prefix that was learned with a projection is read as what the projection made of it.
  static std::shared_ptr<PrefixTuning> load(const Gpt2& network, const std::filesystem::path& directory,
                                            const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<PrefixTuning> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});

  const VirtualTokensConfig& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId) const noexcept override { return nullptr; }
  std::int64_t virtual_tokens() const noexcept override { return config_.num_virtual_tokens; }
  void set_keys_and_values(nn::Context& context, std::int64_t layer, std::span<const std::int64_t> rows,
                           TensorView qkv) const override;
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

 private:
  PrefixTuning(const Gpt2& network, VirtualTokensConfig config, std::nullptr_t);
  HfConfig to_hf() const;

  VirtualTokensConfig config_;
  nn::AdaptedShape shape_;
  std::int64_t n_head_;
  Tensor values_;
};

}  // namespace gpt
