// Low-rank adaptation (Hu et al., arXiv 2106.09685), in the files of Hugging Face's PEFT.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/peft/merge.h"

namespace gpt {

/// The names, defaults and meaning of PEFT's LoraConfig.
struct LoraConfig {
  std::int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  /// Dense layers of the blocks: whole names (transformer.h.0.attn.c_attn) or their last parts (c_attn, attn.c_proj). c_proj is
  /// both the attention's and the feed-forward half's; "all-linear" alone means all.
  std::vector<std::string> target_modules = {"c_attn"};
  bool use_rslora = false;  // scale by lora_alpha / sqrt(r) (arXiv 2312.03732)
  bool use_dora = false;    // learn the lengths of the weights' columns, too (arXiv 2402.09353)
  /// r and lora_alpha of dense layers whose whole names, or their last parts, are these: the first that fits, in the order of
  /// the alphabet.
  std::map<std::string, std::int64_t> rank_pattern = {};
  std::map<std::string, double> alpha_pattern = {};
  /// What the base model is called in the files: a path or a name that people find it by.
  std::string base_model_name_or_path = {};

  /// What the product is multiplied by.
  double scaling() const;
  /// Throws ArgumentError naming the option out of its range.
  void validate() const;
};

/// y = x W + b + scaling (dropout(x) A^T) B^T in every target layer; A [r, in] and B [out, r] float32, unless they are loaded as
/// something else or trained with bf16. Dropout only where a pass has any (ForwardOptions::dropout).
///
/// With use_dora, y = m / |W + scaling (B A)^T| (x W + scaling (x A^T) B^T) + b, m learned and | | the length of each output's
/// column, through which no gradient flows. As PEFT computes it: with dropout, x W stays what it is but for
/// (m / | | - 1) dropout(x) W. The lengths are computed again when A, B or W have changed.
class LoraAdapter final : public nn::Adapter {
 public:
  /// A new one: A uniform within 1 / sqrt(in) (kaiming_uniform with a = sqrt 5), B zero, so that it changes nothing yet.
  /// Throws as LoraConfig::validate; ArgumentError for a target that the network has no layer for, and for a rank above both sides
  /// of a target's matrix.
  LoraAdapter(const Gpt2& network, LoraConfig config, std::uint64_t seed = 0);
  /// PEFT's directory: adapter_config.json and adapter_model.safetensors. Throws IoError, FormatError; UnsupportedError naming a
  /// key of the configuration that would change results and is not computed here; ShapeError for another network's. Modules that
  /// are stored whole beside it (modules_to_save) are an error: see attach_adapter.
  static std::shared_ptr<LoraAdapter> load(const Gpt2& network, const std::filesystem::path& directory,
                                           const std::function<void(std::string_view)>& on_warning = {});
  /// Of this configuration, with tensors that are still to be set through visit().
  static std::shared_ptr<LoraAdapter> from_config(
      const Gpt2& network, const HfConfig& file,
      const std::function<void(std::string_view)>& on_warning = {});
  ~LoraAdapter() override;

  const LoraConfig& config() const noexcept { return config_; }
  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override;
  /// base_model.model.transformer.h.0.attn.c_attn.lora_A.weight, ....lora_B.weight, and ....lora_magnitude_vector with use_dora,
  /// layer after layer.
  void visit(const Visitor& f) override;
  std::string describe() const override;
  void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const override;

  /// Multiplies what it adds by `weight`: for adapters that are stacked, or for less of one. Not saved.
  void set_weight(double weight);

  /// Adds scaling (B A)^T to the matrices themselves, which become float32, and gives their columns the lengths of use_dora: the
  /// network then computes the same without the adapter, to float32 rounding and at no cost. Returns them as they were:
  /// restore() puts them back. `base` are the network's own parameters where others were merged into them before: use_dora takes
  /// lengths of these, and leaves their biases alone, as it does where it is attached behind others. Throws UnsupportedError naming a
  /// quantized matrix; ArgumentError for another network; the network then is as it was.
  using Originals = gpt::Originals;
  Originals merge(Gpt2& network, const Originals& base = {}) const;

 private:
  struct Part;
  LoraAdapter(const Gpt2& network, LoraConfig config, std::nullptr_t);
  HfConfig to_hf() const;

  LoraConfig config_;
  nn::AdaptedShape shape_;
  std::vector<std::unique_ptr<Part>> parts_;  // by LinearId::index; null: not a target
};

}  // namespace gpt
