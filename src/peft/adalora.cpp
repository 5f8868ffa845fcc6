#include "gpt/peft/adalora.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "peft/adalora_importance.h"
#include "peft/adapter_files.h"
#include "peft/dora.h"
#include "peft/initialize.h"
#include "peft/merging.h"
#include "peft/modules.h"

namespace gpt {
namespace {

constexpr std::string_view kAdaLora = "adalora", kAdaLoraType = "ADALORA";
constexpr std::string_view kAdaLoraUnsupported[] = {"bias",
                                                    "use_rslora",
                                                    "alpha_pattern",
                                                    "layers_to_transform",
                                                    "use_dora",
                                                    "exclude_modules",
                                                    "layer_replication",
                                                    "megatron_config",
                                                    "target_parameters",
                                                    "trainable_token_indices"};

/// Ranks that are left of a target; `otherwise` where the pattern says nothing.
std::int64_t ranks_left(const HfConfig* pattern, const std::string& module, std::int64_t otherwise) {
  if (pattern == nullptr) return otherwise;
  for (const std::string& key : pattern->keys()) {
    if (!key.ends_with(module + ".lora_E")) continue;
    const auto kept = pattern->get_bool_list(key);
    if (!kept)
      fail<FormatError>(pattern->source(), key, " is null, expected true or false for each of its ranks");
    const std::int64_t count = std::ranges::count(*kept, true);
    if (count == 0)
      fail<UnsupportedError>(pattern->source(), "rank_pattern leaves no rank of ", module,
                             ", expected at least one");
    return count;
  }
  return otherwise;
}

}  // namespace

void AdaLoraConfig::validate() const {
  const auto require = [](std::string_view name, auto value, bool holds, std::string_view expected) {
    if (!holds) fail<ArgumentError>(kAdaLora, name, " is ", value, ", expected ", expected);
  };
  require("init_r", init_r, init_r >= 1, "1 or more");
  require("target_r", target_r, target_r >= 1 && target_r <= init_r, "1 to init_r");
  constexpr std::int64_t kMostUpdates = std::int64_t{1} << 62;  // of which two can be added
  require("tinit", tinit, tinit >= 0 && tinit < kMostUpdates, "0 or more, and less than 2^62");
  require("tfinal", tfinal, tfinal >= 0 && tfinal < kMostUpdates, "0 or more, and less than 2^62");
  require("deltaT", delta_t, delta_t >= 1, "1 or more");
  require("beta1", beta1, beta1 > 0 && beta1 < 1, "more than 0, and less than 1");
  require("beta2", beta2, beta2 > 0 && beta2 < 1, "more than 0, and less than 1");
  require("orth_reg_weight", orth_reg_weight, orth_reg_weight >= 0 && std::isfinite(orth_reg_weight),
          "0 or more");
  require("total_step", total_step, total_step >= 0, "0 or more");
  require("lora_alpha", lora_alpha, lora_alpha > 0 && std::isfinite(lora_alpha), "more than 0");
  require("lora_dropout", lora_dropout, lora_dropout >= 0 && lora_dropout < 1, "0 or more, and less than 1");
}

struct AdaLoraAdapter::Part final : nn::LinearAdapter {
  peft::Module module;
  ops::Weight a, b;
  Tensor e;
  float scaling = 1, dropout = 0;
  // Of training: of A, B and E, and which ranks are kept, as 1 or 0.
  peft::Importance importance[3];
  Tensor kept;

  std::int64_t rank() const noexcept { return a.out; }
  bool in_place() const noexcept override { return true; }
  TensorView output(nn::Context& context, const nn::Linear&, ConstTensorView x, TensorView z) const override {
    std::optional<Arena::Scope> scratch;
    if (context.tape == nullptr) scratch.emplace(context.arena);
    if (dropout > 0 && context.dropout.on) {
      const TensorView dropped = context.arena.take(x.shape(), x.dtype());
      autograd::dropout(context.tape, x, context.dropout.take(dropout), {}, dropped, context.arena);
      x = dropped;
    }
    const TensorView inner = context.arena.take({x.dim(0), rank()}),
                     weighted = context.arena.take(inner.shape());
    autograd::linear(context.tape, x, a, {}, inner, context.arena);
    autograd::scale_columns(context.tape, inner, e, {}, weighted, context.arena);
    autograd::scale(context.tape, weighted, scaling, weighted);
    autograd::linear(context.tape, weighted, b, {.residual = z}, z, context.arena);
    return z;
  }
};

AdaLoraAdapter::AdaLoraAdapter(const Gpt2& network, AdaLoraConfig config,
                               std::optional<HfConfig> rank_pattern) try
    : config_(std::move(config)), shape_(network.adapted_shape()), rank_pattern_(std::move(rank_pattern)) {
  config_.validate();
  parts_.resize(static_cast<std::size_t>(shape_.n_layer * nn::kLinearPlaces));
  for (peft::Module& module : peft::targeted(network, config_.target_modules)) {
    auto part = std::make_unique<Part>();
    const std::int64_t r = ranks_left(rank_pattern_ ? &*rank_pattern_ : nullptr, module.name, config_.init_r);
    part->a = {.in = module.in, .out = r, .layout = ops::WeightLayout::kOutIn};
    part->b = {.in = r, .out = module.out, .layout = ops::WeightLayout::kOutIn};
    constexpr double kNotZero = 1e-5;  // as PEFT
    part->scaling = static_cast<float>(config_.lora_alpha / (static_cast<double>(config_.init_r) + kNotZero));
    part->dropout = static_cast<float>(config_.lora_dropout);
    const auto index = static_cast<std::size_t>(module.id.index());
    part->module = std::move(module);
    parts_[index] = std::move(part);
  }
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

AdaLoraAdapter::AdaLoraAdapter(const Gpt2& network, AdaLoraConfig config, std::uint64_t seed) try
    : AdaLoraAdapter(network, std::move(config), std::optional<HfConfig>()) {
  std::uint64_t number = 0;
  visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    tensor = Tensor::zeros(shape);
    constexpr double kDeviation = 0.02;
    if (!name.ends_with("lora_E")) peft::fill_normal(tensor, kDeviation, seed, number);
    ++number;
  });
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

AdaLoraAdapter::~AdaLoraAdapter() = default;

std::shared_ptr<AdaLoraAdapter> AdaLoraAdapter::load(
    const Gpt2& network, const std::filesystem::path& directory,
    const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kAdaLoraType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<AdaLoraAdapter> AdaLoraAdapter::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    AdaLoraConfig c;
    file.refuse_null("init_r", "an integer");
    for (const std::string_view key : {"lora_alpha", "lora_dropout"}) file.refuse_null(key, "a number");
    for (const auto& [key, value] : {std::pair("init_r", &c.init_r),
                                     {"target_r", &c.target_r},
                                     {"tinit", &c.tinit},
                                     {"tfinal", &c.tfinal},
                                     {"deltaT", &c.delta_t}})
      *value = file.get_int(key).value_or(*value);
    for (const auto& [key, value] : {std::pair("beta1", &c.beta1),
                                     {"beta2", &c.beta2},
                                     {"orth_reg_weight", &c.orth_reg_weight},
                                     {"lora_alpha", &c.lora_alpha},
                                     {"lora_dropout", &c.lora_dropout}})
      *value = file.get_float(key).value_or(*value);
    c.target_modules = peft::names_in(file, "target_modules", std::move(c.target_modules));
    c.base_model_name_or_path = file.get_string("base_model_name_or_path").value_or("");
    file.get_int("r");           // which PEFT replaces by init_r
    file.get_int("total_step");  // of the run that it comes from
    file.get_bool("fan_in_fan_out");
    file.get_json("init_lora_weights");
    std::optional<HfConfig> pattern;
    if (!file.is_null("rank_pattern")) pattern = file.get_object("rank_pattern");
    peft::check_config(file, kAdaLoraUnsupported, on_warning);
    if (pattern && pattern->keys().empty()) pattern.reset();
    return std::shared_ptr<AdaLoraAdapter>(new AdaLoraAdapter(network, std::move(c), std::move(pattern)));
  });
}

const nn::LinearAdapter* AdaLoraAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : parts_[static_cast<std::size_t>(id.index())].get();
}

std::vector<AdaLoraAdapter::Part*> AdaLoraAdapter::targets() const {
  std::vector<Part*> all;
  for (const auto& part : parts_)
    if (part != nullptr) all.push_back(part.get());
  return all;
}

void AdaLoraAdapter::visit(const Visitor& f) try {
  for (Part* const part : targets()) {
    const std::string name = concat(peft::kPrefix, part->module.name);
    f(name + ".lora_A", part->a.values, part->a.file_shape());
    f(name + ".lora_B", part->b.values, part->b.file_shape());
    f(name + ".lora_E", part->e, {part->rank(), 1});
  }
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

void AdaLoraAdapter::make_state() {
  for (Part* const part : targets()) {
    if (!part->kept.empty()) continue;
    const Shape shapes[3] = {part->a.file_shape(), part->b.file_shape(), {part->rank(), 1}};
    for (std::size_t i = 0; i < 3; ++i)
      part->importance[i] = {Tensor::zeros(shapes[i]), Tensor::zeros(shapes[i])};
    part->kept = Tensor::zeros({part->rank()});
    std::ranges::fill(part->kept.span<float>(), 1.0f);
  }
}

void AdaLoraAdapter::visit_state(const Visitor& f) try {
  make_state();
  constexpr const char* kNames[3] = {".lora_A", ".lora_B", ".lora_E"};
  for (Part* const part : targets()) {
    const std::string name = concat(peft::kPrefix, part->module.name);
    for (std::size_t i = 0; i < 3; ++i) {
      f(concat("exp_avg_ipt.", name, kNames[i]), part->importance[i].mean, part->importance[i].mean.shape());
      f(concat("exp_avg_unc.", name, kNames[i]), part->importance[i].uncertainty,
        part->importance[i].uncertainty.shape());
    }
    f(concat("kept.", name), part->kept, {part->rank()});
  }
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

void AdaLoraAdapter::begin_training(std::int64_t total_steps) try {
  const std::int64_t total = config_.total_step > 0 ? config_.total_step : total_steps;
  if (config_.tinit >= total - config_.tfinal)
    fail<ArgumentError>(kAdaLora, "tinit is ", config_.tinit, " and tfinal ", config_.tfinal, " of ", total,
                        " updates, expected less in all");
  total_step_ = total;
  make_state();
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

void AdaLoraAdapter::add_penalty(std::span<const nn::LearnedTensor> learned) const try {
  if (config_.orth_reg_weight == 0) return;
  const DefaultFloatEnvironment environment;
  const double weight =
      config_.orth_reg_weight / (2 * static_cast<double>(targets().size()));  // the mean over A and B of each
  for (std::size_t i = 0; i + 2 < learned.size(); i += 3)
    for (const std::size_t part : {i, i + 1})  // A and B
      if (learned[part].gradient.raw() != nullptr) peft::add_orthogonality(learned[part], part == i, weight);
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

std::int64_t AdaLoraAdapter::budget(std::int64_t step) const try {
  const DefaultFloatEnvironment environment;
  std::int64_t all = 0;
  for (const Part* part : targets()) all += part->rank();
  const std::int64_t target = std::min(all, config_.target_r * static_cast<std::int64_t>(targets().size()));
  const std::int64_t end = total_step_ - config_.tfinal;
  if (step <= config_.tinit) return all;
  if (step >= end) return target;
  const double left =
      1 - static_cast<double>(step - config_.tinit) / static_cast<double>(end - config_.tinit);
  return static_cast<std::int64_t>(static_cast<double>(all - target) * left * left * left +
                                   static_cast<double>(target));
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

std::int64_t AdaLoraAdapter::ranks() const try {
  std::int64_t count = 0;
  for (const Part* part : targets()) {
    const Tensor wide = part->e.to(DType::f32);
    count += std::ranges::count_if(wide.span<float>(), [](float e) { return e != 0; });
  }
  return count;
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

void AdaLoraAdapter::choose_ranks(std::int64_t budget) {
  std::vector<double> values;
  for (const Part* part : targets())
    for (std::int64_t k = 0; k < part->rank(); ++k) values.push_back(peft::rank_value(part->importance, k));
  const std::int64_t dropped = static_cast<std::int64_t>(values.size()) - budget;
  std::vector<double> sorted = values;
  if (dropped > 0) std::nth_element(sorted.begin(), sorted.begin() + (dropped - 1), sorted.end());
  std::size_t at = 0;
  for (Part* const part : targets())
    for (float& kept : part->kept.span<float>()) {
      const bool stays = dropped <= 0 || values[at] > sorted[static_cast<std::size_t>(dropped - 1)];
      kept = stays ? 1.0f : 0.0f;
      ++at;
    }
}

void AdaLoraAdapter::mask(std::span<const nn::LearnedTensor> learned) const {
  std::size_t at = 2;
  for (const Part* part : targets()) {
    const nn::LearnedTensor& e = learned[at];
    at += 3;
    if (e.gradient.raw() == nullptr) continue;  // what is not learned keeps its bits
    const auto zero = [](TensorView t, std::int64_t k) {
      if (t.raw() == nullptr) return;
      const std::size_t size = size_of(t.dtype());
      std::memset(t.raw() + static_cast<std::size_t>(k) * size, 0, size);
    };
    for (std::int64_t k = 0; k < part->rank(); ++k) {
      if (part->kept.data<float>()[k] != 0) continue;
      zero(e.value, k);
      zero(e.rest, k);
    }
  }
}

void AdaLoraAdapter::after_update(std::span<const nn::LearnedTensor> learned,
                                  const nn::UpdateInfo& update) try {
  const DefaultFloatEnvironment environment;
  make_state();
  const std::int64_t end = total_step_ - config_.tfinal;
  if (update.step < end) {
    std::size_t at = 0;
    for (Part* const part : targets())
      for (peft::Importance& importance : part->importance)
        if (const nn::LearnedTensor& tensor = learned[at++]; tensor.gradient.raw() != nullptr)
          peft::smooth(importance, tensor, update.gradient_scale, config_.beta1, config_.beta2);
  }
  const bool falls = update.step > config_.tinit && update.step < end && update.step % config_.delta_t == 0;
  if (falls || update.step == end) choose_ranks(budget(update.step));
  if (falls || update.step >= end) mask(learned);
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

HfConfig AdaLoraAdapter::to_hf(std::int64_t total_step) const {
  HfConfig file = peft::new_config(kAdaLoraType, config_.base_model_name_or_path);
  file.set_int("init_r", config_.init_r);
  file.set_int("target_r", config_.target_r);
  file.set_int("tinit", config_.tinit);
  file.set_int("tfinal", config_.tfinal);
  file.set_int("deltaT", config_.delta_t);
  file.set_float("beta1", config_.beta1);
  file.set_float("beta2", config_.beta2);
  file.set_float("orth_reg_weight", config_.orth_reg_weight);
  file.set_int("total_step", total_step);
  file.set_float("lora_alpha", config_.lora_alpha);
  file.set_float("lora_dropout", config_.lora_dropout);
  file.set_string_list("target_modules", config_.target_modules);
  file.set_bool("fan_in_fan_out", true);
  file.set_string("bias", "none");
  if (rank_pattern_) file.set_object("rank_pattern", *rank_pattern_);
  return file;
}

std::string AdaLoraAdapter::describe() const { return to_hf(config_.total_step).dump(); }

void AdaLoraAdapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  // PEFT refuses a file without a number of updates, or with no more than tinit and tfinal.
  const std::int64_t least = config_.tinit + config_.tfinal + 1;
  const std::int64_t total = config_.total_step > 0 ? config_.total_step : std::max(total_step_, least);
  peft::save_adapter(directory, to_hf(total), *this, dtype);
}

Originals AdaLoraAdapter::merge(Gpt2& network) const try {
  peft::MergePlan plan;
  for (const Part* part : targets())
    plan.matrices[part->module.matrix] = [part](Tensor& sum) {
      Tensor a = part->a.values.to(DType::f32).clone();
      const Tensor e = part->e.to(DType::f32);
      for (std::int64_t k = 0; k < a.dim(0); ++k)
        for (std::int64_t i = 0; i < a.dim(1); ++i) a.data<float>()[k * a.dim(1) + i] *= e.data<float>()[k];
      peft::add_product(a, part->b.values, part->scaling, sum);
    };
  return peft::merge(network, kAdaLora, shape_, plan);
} catch (...) {
  rethrow_with_memory_errors(kAdaLora);
}

}  // namespace gpt
