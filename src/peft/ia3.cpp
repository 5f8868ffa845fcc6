#include "gpt/peft/ia3.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "gpt/ops/elementwise.h"
#include "peft/adapter_files.h"
#include "peft/merging.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kIa3Type = "IA3";
constexpr std::string_view kIa3Unsupported[] = {"exclude_modules"};

bool is_one_of(const std::string& module, const std::vector<std::string>& names) {
  return std::ranges::any_of(names, [&](const std::string& name) { return peft::is_named(module, name); });
}

}  // namespace

struct Ia3Adapter::Part final : nn::LinearAdapter {
  peft::Module module;
  bool feedforward = false;
  Tensor factors;

  Shape shape() const { return feedforward ? Shape{1, module.in} : Shape{module.out, 1}; }
  bool changes_input() const noexcept override { return feedforward; }
  ConstTensorView input(nn::Context& context, ConstTensorView x) const override {
    if (!feedforward) return x;
    const TensorView scaled = context.arena.take(x.shape(), x.dtype());
    autograd::scale_columns(context.tape, x, factors, {}, scaled, context.arena);
    return scaled;
  }
  TensorView output(nn::Context& context, const nn::Linear&, ConstTensorView, TensorView z) const override {
    if (feedforward) return z;
    const TensorView scaled = context.tape == nullptr ? z : context.arena.take(z.shape());
    autograd::scale_columns(context.tape, z, factors, {}, scaled, context.arena);
    return scaled;
  }
};

Ia3Adapter::Ia3Adapter(const Gpt2& network, Ia3Config config, std::nullptr_t) try
    : config_(std::move(config)), shape_(network.adapted_shape()) {
  parts_.resize(static_cast<std::size_t>(shape_.n_layer * nn::kLinearPlaces));
  std::vector<peft::Module> targets = peft::targeted(network, config_.target_modules);
  for (const std::string& name : config_.feedforward_modules)
    if (std::ranges::none_of(targets, [&](const peft::Module& m) { return peft::is_named(m.name, name); }))
      fail<ArgumentError>("ia3", "feedforward_modules: ", name, " is none of target_modules");
  for (peft::Module& module : targets) {
    auto part = std::make_unique<Part>();
    part->feedforward = is_one_of(module.name, config_.feedforward_modules);
    const auto index = static_cast<std::size_t>(module.id.index());
    part->module = std::move(module);
    parts_[index] = std::move(part);
  }
} catch (...) {
  rethrow_with_memory_errors("ia3");
}

Ia3Adapter::Ia3Adapter(const Gpt2& network, Ia3Config config) try
    : Ia3Adapter(network, std::move(config), nullptr) {
  visit([](const std::string&, Tensor& tensor, const Shape& shape) {
    tensor = Tensor::zeros(shape);
    std::ranges::fill(tensor.span<float>(), 1.0f);
  });
} catch (...) {
  rethrow_with_memory_errors("ia3");
}

Ia3Adapter::~Ia3Adapter() = default;

std::shared_ptr<Ia3Adapter> Ia3Adapter::load(const Gpt2& network, const std::filesystem::path& directory,
                                             const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kIa3Type), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<Ia3Adapter> Ia3Adapter::from_config(const Gpt2& network, const HfConfig& file,
                                                    const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    Ia3Config config;
    config.target_modules = peft::names_in(file, "target_modules", std::move(config.target_modules));
    config.feedforward_modules =
        peft::names_in(file, "feedforward_modules", std::move(config.feedforward_modules));
    config.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
    file.get_bool("fan_in_fan_out");  // says how the base model's matrices lie, which is known
    file.get_bool("init_ia3_weights");
    peft::check_config(file, kIa3Unsupported, on_warning);
    return std::shared_ptr<Ia3Adapter>(new Ia3Adapter(network, std::move(config), nullptr));
  });
}

const nn::LinearAdapter* Ia3Adapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : parts_[static_cast<std::size_t>(id.index())].get();
}

void Ia3Adapter::visit(const Visitor& f) {
  for (const auto& part : parts_)
    if (part != nullptr) f(concat(peft::kPrefix, part->module.name, ".ia3_l"), part->factors, part->shape());
}

HfConfig Ia3Adapter::to_hf() const {
  HfConfig file = peft::new_config(kIa3Type, config_.base_model_name_or_path);
  file.set_string_list("target_modules", config_.target_modules);
  file.set_string_list("feedforward_modules", config_.feedforward_modules);
  file.set_bool("fan_in_fan_out", true);
  file.set_bool("init_ia3_weights", true);
  file.set_null("modules_to_save");
  return file;
}

std::string Ia3Adapter::describe() const { return to_hf().dump(); }

void Ia3Adapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

Originals Ia3Adapter::merge(Gpt2& network) const try {
  peft::MergePlan plan;
  for (const auto& part : parts_) {
    if (part == nullptr) continue;
    const Tensor factors = part->factors.to(DType::f32);
    if (part->feedforward) {
      plan.matrices[part->module.matrix] = [factors](Tensor& w) {  // row i is of input i
        const std::int64_t out = w.dim(1);
        for (std::int64_t i = 0; i < w.dim(0); ++i)
          ops::scale(ConstTensorView(w.data<float>() + i * out, {out}), factors.data<float>()[i],
                     TensorView(w.data<float>() + i * out, {out}));
      };
      continue;
    }
    plan.matrices[part->module.matrix] = [factors](Tensor& w) { ops::scale_columns(w, factors, {}, w); };
    plan.vectors[peft::bias_of(part->module)] = [factors](Tensor& b) {
      const TensorView row(b.data<float>(), {1, b.numel()});
      ops::scale_columns(row, factors, {}, row);
    };
  }
  return peft::merge(network, "ia3", shape_, plan);
} catch (...) {
  rethrow_with_memory_errors("ia3");
}

}  // namespace gpt
