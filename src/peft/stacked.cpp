#include "gpt/peft/stacked.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "peft/adapter_files.h"
#include "peft/any_adapter.h"

namespace gpt {
namespace {

constexpr std::string_view kStacked = "stacked_adapter", kStackedType = "STACKED";

/// factor x as float32.
TensorView scaled(nn::Context& context, ConstTensorView x, double factor) {
  const TensorView y = context.arena.take(x.shape());
  if (x.dtype() != DType::f32) {
    autograd::add(context.tape, x, {}, y, context.arena);
    x = y;
  }
  autograd::scale(context.tape, x, static_cast<float>(factor), y);
  return y;
}

/// x + weight (f(x) - x), where f may change x itself: on a tape another tensor, else x.
template <class F>
TensorView weighted(nn::Context& context, TensorView x, double weight, const F& f) {
  if (weight == 1) return f(x);
  std::optional<Arena::Scope> scratch;
  if (context.tape == nullptr) scratch.emplace(context.arena);
  const TensorView before = scaled(context, x, 1 - weight), after = scaled(context, f(x), weight);
  const TensorView y = context.tape == nullptr ? x : context.arena.take(x.shape(), x.dtype());
  autograd::add(context.tape, after, before, y, context.arena);
  return y;
}

}  // namespace

struct StackedAdapter::Stack final : nn::LinearAdapter {
  struct Layer {
    const nn::LinearAdapter* part;
    double weight;
  };
  std::vector<Layer> layers;  // of the parts that have one

  bool changes_input() const noexcept override {
    return std::ranges::any_of(layers, [](const Layer& l) { return l.part->changes_input(); });
  }
  bool in_place() const noexcept override {
    return std::ranges::all_of(layers, [](const Layer& l) { return l.part->in_place() && l.weight == 1; });
  }
  ConstTensorView input(nn::Context& context, ConstTensorView x) const override {
    return input(context, x, 0);
  }
  TensorView output(nn::Context& context, const nn::Linear& layer, ConstTensorView x,
                    TensorView z) const override {
    std::optional<Arena::Scope> scratch;
    if (context.tape == nullptr) scratch.emplace(context.arena);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const ConstTensorView seen = input(context, x, i + 1);
      z = weighted(context, z, layers[i].weight,
                   [&](TensorView y) { return layers[i].part->output(context, layer, seen, y); });
    }
    return z;
  }

  /// x as it is after the last part and those down to part `first`.
  ConstTensorView input(nn::Context& context, ConstTensorView x, std::size_t first) const {
    for (std::size_t i = layers.size(); i-- > first;) {
      const auto& [part, weight] = layers[i];
      if (!part->changes_input()) continue;
      const ConstTensorView changed = part->input(context, x);
      if (weight == 1) {
        x = changed;
        continue;
      }
      const TensorView before = scaled(context, x, 1 - weight), after = scaled(context, changed, weight);
      const TensorView sum = context.arena.take(x.shape(), x.dtype());
      autograd::add(context.tape, after, before, sum, context.arena);
      x = sum;
    }
    return x;
  }
};

StackedAdapter::StackedAdapter(std::vector<Part> parts) try : parts_(std::move(parts)) {
  if (parts_.empty()) fail<ArgumentError>(kStacked, "there are no parts, expected one or more");
  std::size_t virtual_parts = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto& [adapter, weight] = parts_[i];
    if (adapter == nullptr) fail<ArgumentError>(kStacked, "part ", i, " is null");
    if (adapter->shape() != parts_.front().adapter->shape())
      fail<ArgumentError>(kStacked, "part ", i, " is for another network than part 0");
    if (!std::isfinite(weight))
      fail<ArgumentError>(kStacked, "the weight of part ", i, " is ", weight, ", expected a number");
    if (adapter->virtual_tokens() == 0) continue;
    if (weight != 1)
      fail<ArgumentError>(kStacked, "the weight of part ", i, " is ", weight,
                          ", expected 1, since its virtual tokens are there or not");
    if (++virtual_parts > 1)
      fail<ArgumentError>(kStacked, "part ", i, " has virtual tokens, as one before, expected one at most");
  }
  const std::int64_t count = shape().n_layer * nn::kLinearPlaces;
  for (std::int64_t i = 0; i < count; ++i) {
    auto stack = std::make_unique<Stack>();
    for (const auto& [adapter, weight] : parts_)
      if (const auto* part =
              adapter->linear({i / nn::kLinearPlaces, static_cast<nn::LinearPlace>(i % nn::kLinearPlaces)}))
        stack->layers.push_back({part, weight});
    stacks_.push_back(stack->layers.empty() ? nullptr : std::move(stack));
  }
} catch (...) {
  rethrow_with_memory_errors(kStacked);
}

StackedAdapter::~StackedAdapter() = default;

std::shared_ptr<StackedAdapter> StackedAdapter::load(
    const Gpt2& network, const std::filesystem::path& directory,
    const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = from_config(network, peft::read_config(directory, kStackedType), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

std::shared_ptr<StackedAdapter> StackedAdapter::from_config(
    const Gpt2& network, const HfConfig& file, const std::function<void(std::string_view)>& on_warning) {
  return peft::from_file(file, [&] {
    const auto adapters = file.get_object("adapters"), weights = file.get_object("weights");
    if (!adapters) fail<FormatError>(file.source(), "has no adapters");
    peft::check_config(file, {}, on_warning);
    std::vector<Part> parts;
    for (std::size_t i = 0; i < adapters->keys().size(); ++i) {
      const std::string key = concat(i);
      const auto config = adapters->get_object(key);
      if (!config) fail<FormatError>(file.source(), "adapters has no \"", key, "\", expected 0, 1, ...");
      Part& part = parts.emplace_back();
      part.adapter = peft::adapter_of(network, *config, on_warning);
      if (weights) part.weight = weights->get_float(key).value_or(part.weight);
    }
    return std::make_shared<StackedAdapter>(std::move(parts));
  });
}

nn::AdaptedShape StackedAdapter::shape() const noexcept { return parts_.front().adapter->shape(); }

const nn::LinearAdapter* StackedAdapter::linear(nn::LinearId id) const noexcept {
  return id.layer < 0 ? nullptr : stacks_[static_cast<std::size_t>(id.index())].get();
}

std::int64_t StackedAdapter::virtual_tokens() const noexcept {
  std::int64_t count = 0;
  for (const Part& part : parts_) count += part.adapter->virtual_tokens();
  return count;
}

bool StackedAdapter::predicts_first_token() const noexcept {
  return std::ranges::any_of(parts_, [](const Part& part) { return part.adapter->predicts_first_token(); });
}

void StackedAdapter::embed_virtual_tokens(nn::Context& context, const ops::Weight& wpe,
                                          std::span<const std::int64_t> rows, TensorView x) const {
  for (const Part& part : parts_) part.adapter->embed_virtual_tokens(context, wpe, rows, x);
}

void StackedAdapter::set_keys_and_values(nn::Context& context, std::int64_t layer,
                                         std::span<const std::int64_t> rows, TensorView qkv) const {
  for (const Part& part : parts_) part.adapter->set_keys_and_values(context, layer, rows, qkv);
}

bool StackedAdapter::changes_norms() const noexcept {
  return std::ranges::any_of(parts_, [](const Part& part) { return part.adapter->changes_norms(); });
}

TensorView StackedAdapter::norm_output(nn::Context& context, nn::NormId id, TensorView y) const {
  for (const Part& part : parts_)
    if (part.adapter->changes_norms())
      y = weighted(context, y, part.weight,
                   [&](TensorView x) { return part.adapter->norm_output(context, id, x); });
  return y;
}

void StackedAdapter::visit(const Visitor& f) {
  for (std::size_t i = 0; i < parts_.size(); ++i)
    parts_[i].adapter->visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
      f(concat("adapters.", i, ".", name), tensor, shape);
    });
}

void StackedAdapter::visit_state(const Visitor& f) {
  for (std::size_t i = 0; i < parts_.size(); ++i)
    parts_[i].adapter->visit_state([&](const std::string& name, Tensor& tensor, const Shape& shape) {
      f(concat("adapters.", i, ".", name), tensor, shape);
    });
}

void StackedAdapter::begin_training(std::int64_t total_steps) {
  for (const Part& part : parts_) part.adapter->begin_training(total_steps);
}

template <class F>
void StackedAdapter::for_parts(std::span<const nn::LearnedTensor> learned, const F& f) const {
  std::size_t first = 0;
  for (const Part& part : parts_) {
    std::size_t count = 0;
    part.adapter->visit([&](const std::string&, Tensor&, const Shape&) { ++count; });
    f(*part.adapter, learned.subspan(first, count));
    first += count;
  }
}

void StackedAdapter::add_penalty(std::span<const nn::LearnedTensor> learned) const {
  for_parts(learned, [](const nn::Adapter& adapter, auto tensors) { adapter.add_penalty(tensors); });
}

void StackedAdapter::after_update(std::span<const nn::LearnedTensor> learned, const nn::UpdateInfo& update) {
  for_parts(learned, [&](nn::Adapter& adapter, auto tensors) { adapter.after_update(tensors, update); });
}

HfConfig StackedAdapter::to_hf() const {
  HfConfig file = peft::new_config(kStackedType, "");
  HfConfig adapters, weights;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    adapters.set_object(concat(i), HfConfig::parse(parts_[i].adapter->describe(), "describe()"));
    weights.set_float(concat(i), parts_[i].weight);
  }
  file.set_object("adapters", adapters);
  file.set_object("weights", weights);
  return file;
}

std::string StackedAdapter::describe() const { return to_hf().dump(); }

void StackedAdapter::save(const std::filesystem::path& directory, std::optional<DType> dtype) const {
  peft::save_adapter(directory, to_hf(), *this, dtype);
}

}  // namespace gpt
