#include "gpt/peft/lora.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"
#include "gpt/ops/elementwise.h"
#include "peft/adapter_files.h"
#include "peft/dora.h"
#include "peft/initialize.h"
#include "peft/merging.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kType = "LORA", kWhere = "lora";

/// Keys of PEFT's LoraConfig that change what is computed.
constexpr std::string_view kUnsupported[] = {"bias",
                                             "lora_bias",
                                             "layers_to_transform",
                                             "exclude_modules",
                                             "layer_replication",
                                             "megatron_config",
                                             "use_qalora",
                                             "target_parameters",
                                             "trainable_token_indices",
                                             "alora_invocation_tokens",
                                             "use_bdlora",
                                             "arrow_config",
                                             "kasa_config",
                                             "monteclora_config"};

/// Some ways of beginning (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take something from the base model's matrices, and so does
/// PEFT when it loads such a file.
void check_beginning(const HfConfig& file) {
  constexpr std::string_view kInit = "init_lora_weights";
  constexpr std::string_view kBaseStays[] = {"true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""};
  const std::string value = file.get_json(kInit).value_or("true");
  if (std::ranges::find(kBaseStays, value) == std::end(kBaseStays))
    fail<UnsupportedError>(
        file.source(), kInit, " is ", value,
        ", which is for another base model than the checkpoint's: convert it to plain LoRA");
}

/// The value of the first pattern that is a module's name or its last parts, or the default.
template <class T>
T of_pattern(const std::map<std::string, T>& patterns, const std::string& module, T otherwise) {
  for (const auto& [pattern, value] : patterns)
    if (peft::is_named(module, pattern)) return value;
  return otherwise;
}

}  // namespace

double LoraConfig::scaling() const {
  const auto rank = static_cast<double>(r);
  return lora_alpha / (use_rslora ? math::sqrt(rank) : rank);
}

void LoraConfig::validate() const {
  if (r < 1) fail<ArgumentError>("lora", "r is ", r, ", expected 1 or more");
  if (!(lora_alpha > 0) || !std::isfinite(lora_alpha))
    fail<ArgumentError>("lora", "lora_alpha is ", lora_alpha, ", expected more than 0");
  if (!(lora_dropout >= 0 && lora_dropout < 1))
    fail<ArgumentError>("lora", "lora_dropout is ", lora_dropout, ", expected 0 or more, and less than 1");
}

struct LoraAdapter::Part final : nn::LinearAdapter {
  peft::Module module;
  ops::Weight a, b;
  float unweighted = 1, scaling = 1;
  float dropout = 0;
  std::optional<Tensor> magnitude = {};  // with use_dora
  peft::InverseNorms inverse_norms = {};

  bool in_place() const noexcept override { return !magnitude; }
  TensorView output(nn::Context& context, const nn::Linear& layer, ConstTensorView x,
                    TensorView z) const override {
    std::optional<Arena::Scope> scratch;
    if (context.tape == nullptr) scratch.emplace(context.arena);
    const bool drops = dropout > 0 && context.dropout.on;
    if (drops) {
      const TensorView dropped = context.arena.take(x.shape(), x.dtype());
      autograd::dropout(context.tape, x, context.dropout.take(dropout), {}, dropped, context.arena);
      x = dropped;
    }
    if (!magnitude) return add_product(context, x, z, z);
    const TensorView lengths = context.arena.take({1, b.out});
    const Tensor inverse = inverse_norms.of(layer.weight(), a, b, scaling);
    const TensorView kept = context.arena.take({1, b.out});  // as long as the tape
    std::memcpy(kept.raw(), inverse.view().raw(), kept.nbytes());
    autograd::scale_columns(context.tape, kept, *magnitude, {}, lengths, context.arena);
    const TensorView y = context.tape == nullptr ? z : context.arena.take(z.shape());
    if (!drops) {
      add_product(context, x, z, z);
      autograd::scale_columns(context.tape, z, lengths, layer.bias(), y, context.arena);
      return y;
    }
    const TensorView base = context.arena.take(z.shape()), sum = context.arena.take(z.shape()),
                     scaled = context.arena.take(z.shape()), less = context.arena.take(z.shape());
    autograd::linear(context.tape, x, layer.weight(), {}, base, context.arena);
    add_product(context, x, base, sum);
    autograd::scale_columns(context.tape, sum, lengths, {}, scaled, context.arena);
    autograd::scale(context.tape, base, -1, less);  // the gradient of the lengths needs sum
    autograd::add(context.tape, scaled, less, scaled, context.arena);
    autograd::add(context.tape, scaled, z, y, context.arena);
    return y;
  }

  /// What the columns are multiplied by, of the network's own matrix. With use_dora.
  Tensor factors(const ops::Weight& own) const {
    Tensor all = inverse_norms.of(own, a, b, scaling).clone();
    const Tensor lengths = magnitude->to(DType::f32);
    std::ranges::transform(all.span<float>(), lengths.span<float>(), all.data<float>(), std::multiplies());
    return all;
  }

  /// y = residual + scaling (x A^T) B^T.
  TensorView add_product(nn::Context& context, ConstTensorView x, ConstTensorView residual,
                         TensorView y) const {
    const TensorView inner = context.arena.take({x.dim(0), a.out});
    autograd::linear(context.tape, x, a, {}, inner, context.arena);
    autograd::scale(context.tape, inner, scaling, inner);
    autograd::linear(context.tape, inner, b, {.residual = residual}, y, context.arena);
    return y;
  }
};

LoraAdapter::LoraAdapter(const Gpt2& network, LoraConfig config, std::nullptr_t) try
    : config_(std::move(config)), shape_(network.adapted_shape()) {
  config_.validate();
  parts_.resize(static_cast<std::size_t>(shape_.n_layer * nn::kLinearPlaces));
  for (peft::Module& module : peft::targeted(network, config_.target_modules)) {
    LoraConfig own{.r = of_pattern(config_.rank_pattern, module.name, config_.r),
                   .lora_alpha = of_pattern(config_.alpha_pattern, module.name, config_.lora_alpha),
                   .use_rslora = config_.use_rslora};
    own.validate();
    auto part = std::make_unique<Part>();
    part->a = {.in = module.in, .out = own.r, .layout = ops::WeightLayout::kOutIn};
    part->b = {.in = own.r, .out = module.out, .layout = ops::WeightLayout::kOutIn};
    part->dropout = static_cast<float>(config_.lora_dropout);
    part->unweighted = part->scaling = static_cast<float>(own.scaling());
    if (config_.use_dora) part->magnitude.emplace();
    const auto index = static_cast<std::size_t>(module.id.index());
    part->module = std::move(module);
    parts_[index] = std::move(part);
  }
} catch (...) {
  rethrow_with_memory_errors(kWhere);
}

LoraAdapter::LoraAdapter(const Gpt2& network, LoraConfig config, std::uint64_t seed) try
    : LoraAdapter(network, std::move(config), nullptr) {
  std::uint64_t number = 0;
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    // A rank above the shorter side adds nothing, but PEFT takes it. The longer one is the bound that memory needs.
    if (const std::int64_t most = std::max(part->a.in, part->b.out); part->a.out > most)
      fail<ArgumentError>(kWhere, part->a.out == config_.r ? "r is " : "r by rank_pattern is ", part->a.out,
                          ", expected no more than ", most, ", the longer side of ", part->module.matrix);
    part->a.values = Tensor::zeros(part->a.file_shape());
    peft::fill_uniform(part->a.values, 1 / math::sqrt(static_cast<double>(part->a.in)), seed, number);
    part->b.values = Tensor::zeros(part->b.file_shape());
    number += 2;
  }
  if (!config_.use_dora) return;
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    for (const auto& part : parts_)
      if (part != nullptr && part->module.matrix == name)
        part->magnitude = peft::column_norms(ops::dequantize(weight, ops::WeightLayout::kInOut));
  });
} catch (...) {
  rethrow_with_memory_errors(kWhere);
}

LoraAdapter::~LoraAdapter() = default;

std::shared_ptr<LoraAdapter> LoraAdapter::load(const Gpt2& network, const std::filesystem::path& directory,
                                               const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<LoraAdapter> LoraAdapter::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    LoraConfig config;
    for (const std::string_view key : {"r", "lora_alpha", "lora_dropout"}) file.refuse_null(key, "a number");
    config.r = file.get_int("r").value_or(config.r);
    config.lora_alpha = file.get_float("lora_alpha").value_or(config.lora_alpha);
    config.lora_dropout = file.get_float("lora_dropout").value_or(config.lora_dropout);
    config.use_rslora = file.get_bool("use_rslora").value_or(false);
    config.use_dora = file.get_bool("use_dora").value_or(false);
    if (const auto ranks = peft::pattern_of(file, "rank_pattern"))
      for (const std::string& name : ranks->keys()) config.rank_pattern[name] = *ranks->get_int(name);
    if (const auto alphas = peft::pattern_of(file, "alpha_pattern"))
      for (const std::string& name : alphas->keys()) config.alpha_pattern[name] = *alphas->get_float(name);
    config.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
    config.target_modules = peft::names_in(file, "target_modules", std::move(config.target_modules));
    file.get_bool("fan_in_fan_out");  // says how the base model's matrices lie, which is known
    check_beginning(file);
    peft::check_config(file, kUnsupported, on_warning);
    return std::shared_ptr<LoraAdapter>(new LoraAdapter(network, std::move(config), nullptr));
  });
}

const nn::LinearAdapter* LoraAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : parts_[static_cast<std::size_t>(id.index())].get();
}

void LoraAdapter::visit(const Visitor& f) {
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    const std::string name = concat(peft::kPrefix, part->module.name);
    f(concat(name, ".lora_A.weight"), part->a.values, part->a.file_shape());
    f(concat(name, ".lora_B.weight"), part->b.values, part->b.file_shape());
    if (part->magnitude) f(concat(name, ".lora_magnitude_vector"), *part->magnitude, {part->b.out});
  }
}

HfConfig LoraAdapter::to_hf() const {
  HfConfig config = peft::new_config(kType, config_.base_model_name_or_path);
  config.set_int("r", config_.r);
  config.set_float("lora_alpha", config_.lora_alpha);
  config.set_float("lora_dropout", config_.lora_dropout);
  config.set_string_list("target_modules", config_.target_modules);
  config.set_bool("fan_in_fan_out", true);
  config.set_string("bias", "none");
  config.set_bool("use_rslora", config_.use_rslora);
  if (config_.use_dora) config.set_bool("use_dora", true);
  HfConfig ranks, alphas;
  for (const auto& [name, r] : config_.rank_pattern) ranks.set_int(name, r);
  for (const auto& [name, alpha] : config_.alpha_pattern) alphas.set_float(name, alpha);
  if (!config_.rank_pattern.empty()) config.set_object("rank_pattern", ranks);
  if (!config_.alpha_pattern.empty()) config.set_object("alpha_pattern", alphas);
  config.set_bool("init_lora_weights", true);
  config.set_null("modules_to_save");
  return config;
}

std::string LoraAdapter::describe() const { return to_hf().dump(); }

void LoraAdapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

void LoraAdapter::set_weight(double weight) {
  if (!std::isfinite(weight)) fail<ArgumentError>("lora", "weight is ", weight, ", expected a number");
  const DefaultFloatEnvironment environment;
  for (const auto& part : parts_)
    if (part != nullptr) part->scaling = static_cast<float>(weight * static_cast<double>(part->unweighted));
}

LoraAdapter::Originals LoraAdapter::merge(Gpt2& network, const Originals& base) const try {
  std::map<std::string, ops::Weight> own;
  if (config_.use_dora) {
    own.insert(base.begin(), base.end());
    std::as_const(network).visit_matrices(
        [&own](const std::string& name, const ops::Weight& weight) { own.emplace(name, weight); });
  }
  peft::MergePlan plan;
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    plan.matrices[part->module.matrix] = [&](Tensor& sum) {
      peft::add_product(part->a.values, part->b.values, part->scaling, sum);
      if (part->magnitude) ops::scale_columns(sum, part->factors(own.at(part->module.matrix)), {}, sum);
    };
    // What was added to the bias before is multiplied, too.
    const auto bias = own.find(peft::bias_of(part->module));
    if (bias == own.end()) continue;
    plan.vectors[bias->first] = [&part, &own, bias](Tensor& sum) {
      const Tensor factors = part->factors(own.at(part->module.matrix)),
                   before = bias->second.values.to(DType::f32);
      const std::span<const float> f = factors.span<float>(), b = before.span<float>();
      const std::span<float> x = sum.span<float>();
      for (std::size_t o = 0; o < x.size(); ++o) x[o] = b[o] + f[o] * (x[o] - b[o]);
    };
  }
  return peft::merge(network, kWhere, shape_, plan);
} catch (...) {
  rethrow_with_memory_errors(kWhere);
}

}  // namespace gpt
