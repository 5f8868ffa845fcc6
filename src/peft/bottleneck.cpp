#include "gpt/peft/bottleneck.h"

#include <cstddef>
#include <utility>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "peft/adapter_files.h"
#include "peft/initialize.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kBottleneckType = "BOTTLENECK";

}  // namespace

struct BottleneckAdapter::Part final : nn::LinearAdapter {
  peft::Module module;
  ops::Activation f = ops::Activation::kNone;
  ops::Weight down, up;
  Tensor down_bias, up_bias;

  TensorView output(nn::Context& context, const nn::Linear&, ConstTensorView, TensorView z) const override {
    std::optional<Arena::Scope> scratch;
    if (context.tape == nullptr) scratch.emplace(context.arena);
    const TensorView inner = context.arena.take({z.dim(0), down.out});
    autograd::linear(context.tape, z, down, {.bias = down_bias, .activation = f}, inner, context.arena);
    // z is what the gradient of `down` needs.
    const TensorView y = context.tape == nullptr ? z : context.arena.take(z.shape());
    autograd::linear(context.tape, inner, up, {.bias = up_bias, .residual = z}, y, context.arena);
    return y;
  }
};

BottleneckAdapter::BottleneckAdapter(const Gpt2& network, BottleneckConfig config, std::nullptr_t) try
    : config_(std::move(config)), shape_(network.adapted_shape()) {
  if (config_.bottleneck_size < 1)
    fail<ArgumentError>("bottleneck", "bottleneck_size is ", config_.bottleneck_size, ", expected 1 or more");
  if (config_.non_linearity == ops::Activation::kNone)
    fail<ArgumentError>("bottleneck", "there is no non_linearity, expected one of ", ops::activation_names());
  parts_.resize(static_cast<std::size_t>(shape_.n_layer * nn::kLinearPlaces));
  for (peft::Module& module : peft::targeted(network, config_.target_modules)) {
    auto part = std::make_unique<Part>();
    part->f = config_.non_linearity;
    part->down = {.in = module.out, .out = config_.bottleneck_size, .layout = ops::WeightLayout::kOutIn};
    part->up = {.in = config_.bottleneck_size, .out = module.out, .layout = ops::WeightLayout::kOutIn};
    const auto index = static_cast<std::size_t>(module.id.index());
    part->module = std::move(module);
    parts_[index] = std::move(part);
  }
} catch (...) {
  rethrow_with_memory_errors("bottleneck");
}

BottleneckAdapter::BottleneckAdapter(const Gpt2& network, BottleneckConfig config, std::uint64_t seed) try
    : BottleneckAdapter(network, std::move(config), nullptr) {
  std::uint64_t number = 0;
  visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    tensor = Tensor::zeros(shape);
    constexpr double kDeviation = 0.02;
    if (name.ends_with("adapter_down.weight")) peft::fill_normal(tensor, kDeviation, seed, number);
    ++number;
  });
} catch (...) {
  rethrow_with_memory_errors("bottleneck");
}

BottleneckAdapter::~BottleneckAdapter() = default;

std::shared_ptr<BottleneckAdapter> BottleneckAdapter::load(
    const Gpt2& network, const std::filesystem::path& directory,
    const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kBottleneckType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<BottleneckAdapter> BottleneckAdapter::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    BottleneckConfig config;
    file.refuse_null("bottleneck_size", "an integer");
    config.bottleneck_size = file.get_int("bottleneck_size").value_or(config.bottleneck_size);
    if (const auto name = file.get_string("non_linearity")) {
      const auto f = ops::activation_from_name(*name);
      if (!f)
        fail<UnsupportedError>(file.source(), "non_linearity is ", *name, ", expected one of ",
                               ops::activation_names());
      config.non_linearity = *f;
    }
    config.target_modules = peft::names_in(file, "target_modules", std::move(config.target_modules));
    config.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
    peft::check_config(file, {}, on_warning);
    return std::shared_ptr<BottleneckAdapter>(new BottleneckAdapter(network, std::move(config), nullptr));
  });
}

const nn::LinearAdapter* BottleneckAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : parts_[static_cast<std::size_t>(id.index())].get();
}

void BottleneckAdapter::visit(const Visitor& f) {
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    const std::string name = concat(peft::kPrefix, part->module.name);
    f(concat(name, ".adapter_down.weight"), part->down.values, part->down.file_shape());
    f(concat(name, ".adapter_down.bias"), part->down_bias, {part->down.out});
    f(concat(name, ".adapter_up.weight"), part->up.values, part->up.file_shape());
    f(concat(name, ".adapter_up.bias"), part->up_bias, {part->up.out});
  }
}

HfConfig BottleneckAdapter::to_hf() const {
  HfConfig file = peft::new_config(kBottleneckType, config_.base_model_name_or_path);
  file.set_int("bottleneck_size", config_.bottleneck_size);
  file.set_string("non_linearity", ops::name_of(config_.non_linearity));
  file.set_string_list("target_modules", config_.target_modules);
  return file;
}

std::string BottleneckAdapter::describe() const { return to_hf().dump(); }

void BottleneckAdapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

}  // namespace gpt
