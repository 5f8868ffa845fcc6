#include "gpt/peft/prompt_tuning.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "gpt/ops/embedding.h"
#include "peft/adapter_files.h"
#include "peft/initialize.h"

namespace gpt {
namespace {

constexpr std::string_view kPromptType = "PROMPT_TUNING", kPrefixType = "PREFIX_TUNING";
constexpr const char* kTensor = "prompt_embeddings";

VirtualTokensConfig checked(VirtualTokensConfig config, const Gpt2& network) {
  const std::int64_t most = network.config().n_positions - 1;
  if (config.num_virtual_tokens < 1 || config.num_virtual_tokens > most)
    fail<ArgumentError>("prompt_tuning", "num_virtual_tokens is ", config.num_virtual_tokens,
                        ", expected 1 to ", most, ", so that a token fits behind them");
  return config;
}

/// What both kinds of files hold about the network and the tokens.
HfConfig virtual_tokens_config(std::string_view type, const VirtualTokensConfig& config,
                               const nn::AdaptedShape& shape, std::int64_t n_head) {
  HfConfig file = peft::new_config(type, config.base_model_name_or_path);
  file.set_int("num_virtual_tokens", config.num_virtual_tokens);
  file.set_int("token_dim", shape.features);
  file.set_int("num_transformer_submodules", 1);
  file.set_int("num_attention_heads", n_head);
  file.set_int("num_layers", shape.n_layer);
  return file;
}

/// Sizes that PEFT takes from the base model.
VirtualTokensConfig read_virtual_tokens(const HfConfig& file, const Gpt2& network) {
  const Gpt2Config& c = network.config();
  VirtualTokensConfig config;
  const auto count = file.get_int("num_virtual_tokens");
  if (!count) fail<FormatError>(file.source(), "has no num_virtual_tokens");
  config.num_virtual_tokens = *count;
  config.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
  for (const auto& [key, expected] : {std::pair("token_dim", c.n_embd),
                                      {"num_transformer_submodules", 1},
                                      {"num_attention_heads", c.n_head},
                                      {"num_layers", c.n_layer}})
    if (const auto found = file.get_int(key); found && *found != expected)
      fail<ShapeError>(file.source(), key, " is ", *found, ", expected ", expected, ", as in the network");
  return config;
}

}  // namespace

PromptTuning::PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::nullptr_t) try
    : config_(checked(std::move(config), network)),
      shape_(network.adapted_shape()),
      n_head_(network.config().n_head),
      embeddings_{
          .in = shape_.features, .out = config_.num_virtual_tokens, .layout = ops::WeightLayout::kOutIn} {
} catch (...) {
  rethrow_with_memory_errors("prompt_tuning");
}

PromptTuning::PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::uint64_t seed)
    : PromptTuning(network, std::move(config), nullptr) {
  embeddings_.values = Tensor::zeros(embeddings_.file_shape());
  peft::fill_normal(embeddings_.values, static_cast<double>(network.config().initializer_range), seed, 0);
}

PromptTuning::PromptTuning(const Gpt2& network, VirtualTokensConfig config, std::span<const TokenId> text) try
    : PromptTuning(network, std::move(config), nullptr) {
  if (text.empty()) fail<ArgumentError>("prompt_tuning", "the text has no tokens, expected 1 or more");
  std::vector<TokenId> ids;
  for (std::size_t i = 0; std::cmp_less(i, config_.num_virtual_tokens); ++i)
    ids.push_back(text[i % text.size()]);
  embeddings_.values = Tensor::zeros(embeddings_.file_shape());
  // What embeds a token at a position, where all positions are at 0.
  ops::Weight nowhere{.in = shape_.features, .out = 1, .layout = ops::WeightLayout::kOutIn};
  nowhere.values = Tensor::zeros(nowhere.file_shape());
  const std::vector<std::int32_t> positions(ids.size(), 0);
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    if (name == "wte.weight") ops::embedding(ids, positions, weight, nowhere, embeddings_.values);
  });
} catch (...) {
  rethrow_with_memory_errors("prompt_tuning");
}

std::shared_ptr<PromptTuning> PromptTuning::load(const Gpt2& network, const std::filesystem::path& directory,
                                                 const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kPromptType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<PromptTuning> PromptTuning::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    VirtualTokensConfig config = read_virtual_tokens(file, network);
    // Where they began does not matter any more.
    for (const char* key : {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
                            "tokenizer_kwargs", "num_attention_heads", "num_layers"})
      file.get_json(key);
    peft::check_config(file, {}, on_warning);
    return std::shared_ptr<PromptTuning>(new PromptTuning(network, std::move(config), nullptr));
  });
}

void PromptTuning::embed_virtual_tokens(nn::Context& context, const ops::Weight& wpe,
                                        std::span<const std::int64_t> rows, TensorView x) const {
  const auto n = static_cast<std::size_t>(config_.num_virtual_tokens);
  const auto ids = context.arena.take_span<TokenId>(n);
  const auto positions = context.arena.take_span<std::int32_t>(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = positions[i] = static_cast<std::int32_t>(i);
  const TensorView sums = context.arena.take({config_.num_virtual_tokens, shape_.features});
  autograd::embedding(context.tape, ids, positions, embeddings_, wpe, sums);
  autograd::replace_rows(context.tape, sums, 0, rows, 0, shape_.features, x);
}

void PromptTuning::visit(const Visitor& f) try {
  f(kTensor, embeddings_.values, embeddings_.file_shape());
} catch (...) {
  rethrow_with_memory_errors("prompt_tuning");
}

HfConfig PromptTuning::to_hf() const {
  HfConfig file = virtual_tokens_config(kPromptType, config_, shape_, n_head_);
  file.set_string("prompt_tuning_init", "RANDOM");
  file.set_null("prompt_tuning_init_text");
  file.set_null("tokenizer_name_or_path");
  return file;
}

std::string PromptTuning::describe() const { return to_hf().dump(); }

void PromptTuning::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

PrefixTuning::PrefixTuning(const Gpt2& network, VirtualTokensConfig config, std::nullptr_t)
    : config_(checked(std::move(config), network)),
      shape_(network.adapted_shape()),
      n_head_(network.config().n_head) {
  if (!network.config().pruned_heads.empty())
    fail<UnsupportedError>("prefix_tuning", "the network has pruned_heads, and a prefix is for all heads");
}

PrefixTuning::PrefixTuning(const Gpt2& network, VirtualTokensConfig config, std::uint64_t seed)
    : PrefixTuning(network, std::move(config), nullptr) {
  visit([&](const std::string&, Tensor& tensor, const Shape& shape) {
    tensor = Tensor::zeros(shape);
    peft::fill_normal(tensor, 1, seed, 0);
  });
}

std::shared_ptr<PrefixTuning> PrefixTuning::load(const Gpt2& network, const std::filesystem::path& directory,
                                                 const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kPrefixType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<PrefixTuning> PrefixTuning::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    VirtualTokensConfig config = read_virtual_tokens(file, network);
    file.get_json("encoder_hidden_size");  // of the projection
    file.get_json("prefix_projection");
    peft::check_config(file, {}, on_warning);
    return std::shared_ptr<PrefixTuning>(new PrefixTuning(network, std::move(config), nullptr));
  });
}

void PrefixTuning::set_keys_and_values(nn::Context& context, std::int64_t layer,
                                       std::span<const std::int64_t> rows, TensorView qkv) const {
  const std::int64_t d = shape_.features;
  autograd::replace_rows(context.tape, values_, 2 * layer * d, rows, d, 2 * d, qkv);
}

void PrefixTuning::visit(const Visitor& f) try {
  f(kTensor, values_, {config_.num_virtual_tokens, 2 * shape_.n_layer * shape_.features});
} catch (...) {
  rethrow_with_memory_errors("prefix_tuning");
}

HfConfig PrefixTuning::to_hf() const {
  HfConfig file = virtual_tokens_config(kPrefixType, config_, shape_, n_head_);
  file.set_int("encoder_hidden_size", shape_.features);
  file.set_bool("prefix_projection", false);
  return file;
}

std::string PrefixTuning::describe() const { return to_hf().dump(); }

void PrefixTuning::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

}  // namespace gpt
