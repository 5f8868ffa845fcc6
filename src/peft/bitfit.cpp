#include "gpt/peft/bitfit.h"

#include <cstddef>
#include <utility>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "gpt/ops/elementwise.h"
#include "models/parameter_names.h"
#include "peft/adapter_files.h"
#include "peft/merging.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kBitFitType = "BITFIT";

/// "h.0.ln_1", ..., "ln_f".
std::string norm_name(std::size_t index, std::int64_t n_layer) {
  const std::size_t layer = index / 2;
  if (std::cmp_equal(layer, n_layer)) return "ln_f";
  return concat("h.", layer, index % 2 == 0 ? ".ln_1" : ".ln_2");
}

}  // namespace

struct BitFitAdapter::Part final : nn::LinearAdapter {
  peft::Module module;
  Tensor delta;

  bool in_place() const noexcept override { return true; }
  TensorView output(nn::Context& context, const nn::Linear&, ConstTensorView, TensorView z) const override {
    autograd::add_columns(context.tape, z, delta, z, context.arena);
    return z;
  }
};

BitFitAdapter::BitFitAdapter(const Gpt2& network, BitFitConfig config, std::nullptr_t) try
    : config_(std::move(config)), shape_(network.adapted_shape()) {
  for (peft::Module& module : peft::modules_of(network)) {
    linears_.push_back(std::make_unique<Part>());
    linears_.back()->module = std::move(module);
  }
  norms_.resize(static_cast<std::size_t>(2 * shape_.n_layer + 1));
} catch (...) {
  rethrow_with_memory_errors("bitfit");
}

BitFitAdapter::BitFitAdapter(const Gpt2& network, BitFitConfig config) try
    : BitFitAdapter(network, std::move(config), nullptr) {
  visit([](const std::string&, Tensor& tensor, const Shape& shape) { tensor = Tensor::zeros(shape); });
} catch (...) {
  rethrow_with_memory_errors("bitfit");
}

BitFitAdapter::~BitFitAdapter() = default;

std::shared_ptr<BitFitAdapter> BitFitAdapter::load(const Gpt2& network,
                                                   const std::filesystem::path& directory,
                                                   const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kBitFitType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<BitFitAdapter> BitFitAdapter::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    BitFitConfig config{file.get_string("base_model_name_or_path").value_or("")};
    peft::check_config(file, {}, on_warning);
    return std::shared_ptr<BitFitAdapter>(new BitFitAdapter(network, std::move(config), nullptr));
  });
}

const nn::LinearAdapter* BitFitAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : linears_[static_cast<std::size_t>(id.index())].get();
}

TensorView BitFitAdapter::norm_output(nn::Context& context, nn::NormId id, TensorView y) const {
  const std::size_t index =
      id.layer < 0 ? norms_.size() - 1 : static_cast<std::size_t>(2 * id.layer + (id.second ? 1 : 0));
  autograd::add_columns(context.tape, y, norms_[index], y, context.arena);
  return y;
}

void BitFitAdapter::visit(const Visitor& f) try {
  for (const auto& part : linears_)
    f(concat(peft::kPrefix, part->module.name, ".bias_delta"), part->delta, {part->module.out});
  for (std::size_t i = 0; i < norms_.size(); ++i)
    f(concat(peft::kPrefix, kBaseModelPrefix, norm_name(i, shape_.n_layer), ".bias_delta"), norms_[i],
      {shape_.features});
} catch (...) {
  rethrow_with_memory_errors("bitfit");
}

HfConfig BitFitAdapter::to_hf() const {
  return peft::new_config(kBitFitType, config_.base_model_name_or_path);
}

std::string BitFitAdapter::describe() const { return to_hf().dump(); }

void BitFitAdapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

Originals BitFitAdapter::merge(Gpt2& network) const try {
  peft::MergePlan plan;
  const auto adds = [](const Tensor& delta) {
    return [wide = delta.to(DType::f32)](Tensor& bias) { ops::add(wide, bias); };
  };
  for (const auto& part : linears_) plan.vectors[peft::bias_of(part->module)] = adds(part->delta);
  for (std::size_t i = 0; i < norms_.size(); ++i)
    plan.vectors[norm_name(i, shape_.n_layer) + ".bias"] = adds(norms_[i]);
  return peft::merge(network, "bitfit", shape_, plan);
} catch (...) {
  rethrow_with_memory_errors("bitfit");
}

}  // namespace gpt
