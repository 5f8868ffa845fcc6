// Low-rank adaptation with a budget of ranks (AdaLoRA; Zhang et al., arXiv 2303.10512), in the files of Hugging Face's PEFT.
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

/// The names, defaults and meaning of PEFT's AdaLoraConfig.
struct AdaLoraConfig {
  std::int64_t init_r = 12;   // ranks of each target at first
  std::int64_t target_r = 8;  // and on average in the end
  std::int64_t tinit = 0;     // updates before ranks are taken away
  std::int64_t tfinal = 0;    // updates at the end, when they are what they will be
  std::int64_t delta_t = 1;   // updates between (deltaT)
  double beta1 = 0.85;        // smoothing of the importance of each number
  double beta2 = 0.85;        // and of its uncertainty
  double orth_reg_weight = 0.5;
  /// Updates in all; 0: those of the training run, and so when it is loaded.
  std::int64_t total_step = 0;
  double lora_alpha = 8;
  double lora_dropout = 0;
  /// As LoraConfig::target_modules.
  std::vector<std::string> target_modules = {"c_attn"};
  std::string base_model_name_or_path = {};

  /// Throws ArgumentError naming the option out of its range.
  void validate() const;
};

/// y = x W + b + lora_alpha / (init_r + 1e-5) (E (dropout(x) A^T)) B^T in every target layer: A [r, in], E [r, 1], B [out, r].
///
/// In training, orth_reg_weight times the mean of |A A^T - I| and |B^T B - I| over all targets is added to the loss (Frobenius
/// norms). After each update the importance of each number w of gradient g is smoothed, I = beta1 I + (1 - beta1) |w g|, and its
/// uncertainty, U = beta2 U + (1 - beta2) ||w g| - I|; a rank is worth E's I U and the means of A's and B's of that rank. Of all
/// targets together, so many of the least ranks are set to zero as a budget says that falls by a cubic curve from init_r to
/// target_r for each; in the last tfinal updates the same stay zero.
class AdaLoraAdapter final : public nn::Adapter {
 public:
  /// A new one: A and B N(0, 0.02), E zero, so that it changes nothing yet. Throws as AdaLoraConfig::validate; ArgumentError
  /// for a target that the network has no layer for.
  AdaLoraAdapter(const Gpt2& network, AdaLoraConfig config, std::uint64_t seed = 0);
  /// PEFT's directory. Ranks that PEFT has left out (rank_pattern) stay left out. Throws as LoraAdapter::load.
  static std::shared_ptr<AdaLoraAdapter> load(const Gpt2& network, const std::filesystem::path& directory,
                                              const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<AdaLoraAdapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~AdaLoraAdapter() override;

  const AdaLoraConfig& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  /// base_model.model.transformer.h.0.attn.c_attn.lora_A, ....lora_B, ....lora_E, layer after layer.
  void visit(const Visitor& f) override;
  void visit_state(const Visitor& f) override;
  /// Throws ArgumentError where no update lies between tinit and tfinal.
  void begin_training(std::int64_t total_steps) override;
  void add_penalty(std::span<const nn::LearnedTensor> learned) const override;
  void after_update(std::span<const nn::LearnedTensor> learned, const nn::UpdateInfo& update) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

  /// Ranks that the budget allows in all after an update of a run of total_step updates: all at first.
  std::int64_t budget(std::int64_t step) const;
  /// Ranks that are not zero.
  std::int64_t ranks() const;

  /// As LoraAdapter::merge.
  Originals merge(Gpt2& network) const;

 private:
  struct Part;
  AdaLoraAdapter(const Gpt2& network, AdaLoraConfig config, std::optional<HfConfig> rank_pattern);
  HfConfig to_hf(std::int64_t total_step) const;
  void make_state();
  std::vector<Part*> targets() const;
  void mask(std::span<const nn::LearnedTensor> learned) const;
  void choose_ranks(std::int64_t budget);

  AdaLoraConfig config_;
  nn::AdaptedShape shape_;
  std::optional<HfConfig> rank_pattern_;
  std::vector<std::unique_ptr<Part>> parts_;  // by LinearId::index; null: not a target
  std::int64_t total_step_ = 0;               // of the run
};

}  // namespace gpt
