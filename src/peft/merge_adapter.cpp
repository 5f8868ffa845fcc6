#include <string_view>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/ops/elementwise.h"
#include "gpt/peft/adalora.h"
#include "gpt/peft/bitfit.h"
#include "gpt/peft/ia3.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/merge.h"
#include "gpt/peft/stacked.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kMergeAdapter = "merge_adapter";

/// weight merged + (1 - weight) original, of tensors that lie alike; the sum is float32.
Tensor mixed(const Tensor& original, const Tensor& merged, double weight) {
  Tensor sum = original.to(DType::f32).clone(), part = merged.to(DType::f32).clone();
  ops::scale(sum, static_cast<float>(1 - weight), sum);
  ops::scale(part, static_cast<float>(weight), part);
  ops::add(part, sum);
  return sum;
}

/// Takes back a part of what was merged: a layer's result is linear in its matrix and its bias.
struct Mixer {
  const Originals& originals;
  double weight;

  const ops::Weight* find(const std::string& name) const {
    for (const auto& [of, original] : originals)
      if (of == name) return &original;
    return nullptr;
  }
  void operator()(const std::string& name, ops::Weight& matrix) const {
    if (const ops::Weight* const original = find(name))
      matrix.values = mixed(original->values, matrix.values, weight);
  }
  void operator()(const std::string& name, Tensor& tensor, const Shape&) const {
    if (const ops::Weight* const original = find(name)) tensor = mixed(original->values, tensor, weight);
  }
};

/// Adds those whose names it has not yet.
void add_new(Originals& all, const Originals& more) {
  for (const auto& original : more)
    if (Mixer{all, 1}.find(original.first) == nullptr) all.push_back(original);
}

Originals merge_part(const nn::Adapter& adapter, Gpt2& network, const Originals& base);

/// `base`: LoraAdapter::merge's.
Originals merge_stack(const StackedAdapter& stack, Gpt2& network, Originals base) {
  Originals before;  // of each name the first
  try {
    for (const auto& [adapter, weight] : stack.parts()) {
      const Originals of_part = merge_part(*adapter, network, base);
      add_new(base, of_part);
      add_new(before, of_part);
      if (weight != 1) network.visit(Mixer{of_part, weight});
    }
  } catch (...) {
    restore(network, std::move(before));
    throw;
  }
  return before;
}

Originals merge_part(const nn::Adapter& adapter, Gpt2& network, const Originals& base) {
  if (const auto* lora = dynamic_cast<const LoraAdapter*>(&adapter)) return lora->merge(network, base);
  if (const auto* ada = dynamic_cast<const AdaLoraAdapter*>(&adapter)) return ada->merge(network);
  if (const auto* ia3 = dynamic_cast<const Ia3Adapter*>(&adapter)) return ia3->merge(network);
  if (const auto* bitfit = dynamic_cast<const BitFitAdapter*>(&adapter)) return bitfit->merge(network);
  if (const auto* stack = dynamic_cast<const StackedAdapter*>(&adapter))
    return merge_stack(*stack, network, base);
  fail<UnsupportedError>(kMergeAdapter,
                         "an adapter of this method cannot be part of a network's weights, "
                         "expected LoRA, DoRA, AdaLoRA, IA3, BitFit or a stack of these");
}

}  // namespace

Originals merge_adapter(const nn::Adapter& adapter, Gpt2& network) {
  return with_memory_errors(kMergeAdapter, [&] {
    const DefaultFloatEnvironment environment;
    if (const auto found = find_non_finite(adapter))
      fail<NumericError>(kMergeAdapter, "parameter ", found->name, ": element ", found->element,
                         ", expected a finite number");
    return merge_part(adapter, network, {});
  });
}

}  // namespace gpt
