#include "gpt/peft/lora.h"

#include <cmath>
#include <cstddef>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"
#include "peft/adapter_files.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kType = "LORA";

/// Keys of PEFT's LoraConfig that change what is computed.
constexpr std::string_view kUnsupported[] = {"bias",
                                             "lora_bias",
                                             "rank_pattern",
                                             "alpha_pattern",
                                             "layers_to_transform",
                                             "use_dora",
                                             "modules_to_save",
                                             "exclude_modules",
                                             "layer_replication",
                                             "megatron_config",
                                             "use_qalora",
                                             "target_parameters",
                                             "trainable_token_indices",
                                             "alora_invocation_tokens"};

/// dW = scaling (B A)^T, added to a matrix in its file's layout.
Tensor with_product(const ops::Weight& weight, const Tensor& a, const Tensor& b, float scaling) {
  Tensor sum = ops::unpack(weight, ops::WeightLayout::kInOut).to(DType::f32).clone();
  const Tensor wide_a = a.to(DType::f32), wide_b = b.to(DType::f32);
  const std::int64_t in = weight.in, out = weight.out, r = a.dim(0);
  const float *from_a = wide_a.data<float>(), *from_b = wide_b.data<float>();
  float* to = sum.data<float>();
  parallel_for(in, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t o = 0; o < out; ++o) {
        float product = 0;
        for (std::int64_t k = 0; k < r; ++k)
          product = std::fma(from_b[o * r + k], from_a[k * in + i], product);
        to[i * out + o] = std::fma(scaling, product, to[i * out + o]);
      }
  });
  return sum;
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
  float scaling = 1;
  float dropout = 0;

  TensorView output(nn::Context& context, const nn::Linear&, ConstTensorView x, TensorView z) const override {
    std::optional<Arena::Scope> scratch;
    if (context.tape == nullptr) scratch.emplace(context.arena);
    if (dropout > 0 && context.dropout.on) {
      const TensorView dropped = context.arena.take(x.shape(), x.dtype());
      autograd::dropout(context.tape, x, context.dropout.take(dropout), {}, dropped, context.arena);
      x = dropped;
    }
    const TensorView inner = context.arena.take({x.dim(0), a.out});
    autograd::linear(context.tape, x, a, {}, inner, context.arena);
    autograd::scale(context.tape, inner, scaling, inner);
    autograd::linear(context.tape, inner, b, {.residual = z}, z, context.arena);
    return z;
  }
};

LoraAdapter::LoraAdapter(const Gpt2& network, LoraConfig config, std::nullptr_t)
    : config_(std::move(config)), shape_(network.adapted_shape()) {
  config_.validate();
  parts_.resize(static_cast<std::size_t>(shape_.n_layer * nn::kLinearPlaces));
  for (peft::Module& module : peft::targeted(network, config_.target_modules)) {
    auto part = std::make_unique<Part>();
    part->a = {.in = module.in, .out = config_.r, .layout = ops::WeightLayout::kOutIn};
    part->b = {.in = config_.r, .out = module.out, .layout = ops::WeightLayout::kOutIn};
    part->dropout = static_cast<float>(config_.lora_dropout);
    const auto index = static_cast<std::size_t>(module.id.index());
    part->module = std::move(module);
    parts_[index] = std::move(part);
  }
  set_weight(1);
}

LoraAdapter::LoraAdapter(const Gpt2& network, LoraConfig config, std::uint64_t seed)
    : LoraAdapter(network, std::move(config), nullptr) {
  const DefaultFloatEnvironment environment;
  std::uint64_t stream = std::uint64_t{14} << 60;  // far from those that training takes from the same seed
  visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    tensor = Tensor::zeros(shape);
    const CounterRng rng(seed, stream++);
    if (name.ends_with("lora_B.weight")) return;
    const double bound = 1 / math::sqrt(static_cast<double>(shape[1]));
    for (std::int64_t i = 0; i < shape.numel(); ++i)
      tensor.data<float>()[i] =
          static_cast<float>(bound * (2 * rng.uniform(static_cast<std::uint64_t>(i)) - 1));
  });
}

LoraAdapter::~LoraAdapter() = default;

std::shared_ptr<LoraAdapter> LoraAdapter::load(const Gpt2& network, const std::filesystem::path& directory,
                                               const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    const HfConfig file = peft::read_config(directory, kType);
    LoraConfig config;
    config.r = file.get_int("r").value_or(config.r);
    config.lora_alpha = file.get_float("lora_alpha").value_or(config.lora_alpha);
    config.lora_dropout = file.get_float("lora_dropout").value_or(config.lora_dropout);
    config.use_rslora = file.get_bool("use_rslora").value_or(false);
    config.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
    if (file.is_list("target_modules"))
      config.target_modules = *file.get_string_list("target_modules");
    else if (const auto pattern = file.get_string("target_modules"))
      config.target_modules = {*pattern};
    file.get_bool("fan_in_fan_out");     // says how the base model's matrices lie, which is known
    file.get_json("init_lora_weights");  // is over
    peft::check_config(file, kUnsupported, on_warning);
    std::shared_ptr<LoraAdapter> adapter(new LoraAdapter(network, std::move(config), nullptr));
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

const nn::LinearAdapter* LoraAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : parts_[static_cast<std::size_t>(id.index())].get();
}

void LoraAdapter::visit(const Visitor& f) {
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    const std::string name = concat(peft::kPrefix, part->module.name);
    f(name + ".lora_A.weight", part->a.values, part->a.file_shape());
    f(name + ".lora_B.weight", part->b.values, part->b.file_shape());
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
    if (part != nullptr) part->scaling = static_cast<float>(weight * config_.scaling());
}

LoraAdapter::Originals LoraAdapter::merge(Gpt2& network) const {
  constexpr std::string_view where = "lora";
  if (network.adapted_shape() != shape_)
    fail<ArgumentError>(where, "cannot be merged into a network of another shape");
  return with_memory_errors(where, [&] {
    const DefaultFloatEnvironment environment;
    Originals originals, merged;
    network.visit_matrices([&](const std::string& name, ops::Weight& weight) {
      for (const auto& part : parts_) {
        if (part == nullptr || part->module.matrix != name) continue;
        if (weight.quantized())
          fail<UnsupportedError>(where, "matrix ", name, " is quantized, and nothing can be merged into it");
        ops::Weight sum = weight;
        sum.layout = ops::WeightLayout::kInOut;
        sum.values = with_product(weight, part->a.values, part->b.values, part->scaling);
        if (weight.layout == ops::WeightLayout::kPanels) sum = ops::pack(sum);
        if (weight.layout == ops::WeightLayout::kOutIn) {
          sum.values = ops::unpack(sum, ops::WeightLayout::kOutIn);
          sum.layout = ops::WeightLayout::kOutIn;
        }
        originals.emplace_back(name, weight);
        merged.emplace_back(name, std::move(sum));
      }
    });
    restore(network, std::move(merged));
    return originals;
  });
}

void restore(Gpt2& network, LoraAdapter::Originals originals) {
  network.visit_matrices([&](const std::string& name, ops::Weight& weight) {
    for (auto& [of, original] : originals)
      if (of == name) weight = std::move(original);
  });
}

}  // namespace gpt
