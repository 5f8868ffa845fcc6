#include "peft/merging.h"

#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace peft {
namespace {

struct Merger {
  std::string_view where;
  const MergePlan& plan;
  Originals originals = {}, merged = {};

  void operator()(const std::string& name, ops::Weight& weight) {
    const auto change = plan.matrices.find(name);
    if (change == plan.matrices.end()) return;
    if (weight.quantized())
      fail<UnsupportedError>(where, "matrix ", name, " is quantized, and nothing can be merged into it");
    ops::Weight sum = weight;
    sum.layout = ops::WeightLayout::kInOut;
    sum.values = ops::unpack(weight, ops::WeightLayout::kInOut).to(DType::f32).clone();
    change->second(sum.values);
    if (weight.layout == ops::WeightLayout::kPanels) sum = ops::pack(sum);
    if (weight.layout == ops::WeightLayout::kOutIn) {
      sum.values = ops::unpack(sum, ops::WeightLayout::kOutIn);
      sum.layout = ops::WeightLayout::kOutIn;
    }
    originals.emplace_back(name, weight);
    merged.emplace_back(name, std::move(sum));
  }

  void operator()(const std::string& name, Tensor& tensor, const Shape&) {
    const auto change = plan.vectors.find(name);
    if (change == plan.vectors.end()) return;
    Tensor sum = tensor.to(DType::f32).clone();
    change->second(sum);
    originals.emplace_back(name, ops::Weight{.values = tensor});
    merged.emplace_back(name, ops::Weight{.values = std::move(sum)});
  }
};

}  // namespace

Originals merge(Gpt2& network, std::string_view where, const nn::AdaptedShape& shape, const MergePlan& plan) {
  if (network.adapted_shape() != shape)
    fail<ArgumentError>(where, "cannot be merged into a network of another shape");
  return with_memory_errors(where, [&] {
    const DefaultFloatEnvironment environment;
    Merger merger{where, plan};
    network.visit(merger);
    restore(network, std::move(merger.merged));
    return std::move(merger.originals);
  });
}

}  // namespace peft

namespace {

struct Restorer {
  Originals& originals;

  ops::Weight* find(const std::string& name) const {
    for (auto& [of, original] : originals)
      if (of == name) return &original;
    return nullptr;
  }
  void operator()(const std::string& name, ops::Weight& weight) const {
    if (ops::Weight* const original = find(name)) weight = std::move(*original);
  }
  void operator()(const std::string& name, Tensor& tensor, const Shape&) const {
    if (ops::Weight* const original = find(name)) tensor = std::move(original->values);
  }
};

}  // namespace

void restore(Gpt2& network, Originals originals) { network.visit(Restorer{originals}); }

}  // namespace gpt
