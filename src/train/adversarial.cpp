#include "gpt/train/adversarial.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/ops/elementwise.h"
#include "gpt/ops/optimizer.h"

namespace gpt {
namespace {

constexpr std::string_view kAdversarial = "adversarial";
constexpr std::array<std::string_view, 3> kAdversarialMethods{"fgm", "pgd", "freelb"};

TensorView rows_of_sequence(Tensor& of, const EmbeddingOffset& batch, std::size_t sequence) {
  const std::int64_t d = of.dim(1), begin = batch.begin[sequence], count = batch.begin[sequence + 1] - begin;
  return TensorView(of.data<float>() + begin * d, {count, d});
}

/// offset = P(offset + step gradient / |gradient|) for every sequence; one without a gradient keeps its offset.
void ascend(EmbeddingOffset& at, double step, double epsilon) {
  if (at.offset.empty()) at.offset = Tensor::zeros(at.gradient.shape());
  for (std::size_t i = 0; i + 1 < at.begin.size(); ++i) {
    const TensorView gradient = rows_of_sequence(at.gradient, at, i),
                     offset = rows_of_sequence(at.offset, at, i);
    const double norm = std::sqrt(ops::sum_of_squares(gradient));
    if (norm == 0) continue;
    ops::scale(gradient, static_cast<float>(step / norm), gradient);
    ops::add(gradient, offset);
    const double length = std::sqrt(ops::sum_of_squares(offset));
    if (length > epsilon) ops::scale(offset, static_cast<float>(epsilon / length), offset);
  }
}

/// Where kFreeLb begins.
Tensor random_offset(const EmbeddingOffset& batch, const Shape& shape, double epsilon,
                     const DropoutSeed& seed) {
  Tensor offset = Tensor::empty(shape);
  // The last stream of the pass: dropout would take it for the last of 2^20 sequences.
  const CounterRng rng(seed.seed, seed.stream + 0xFFFFFFFFu);
  for (std::size_t i = 0; i + 1 < batch.begin.size(); ++i) {
    const std::int64_t begin = batch.begin[i] * shape[1], end = batch.begin[i + 1] * shape[1];
    const double most = epsilon / std::sqrt(static_cast<double>(end - begin));
    for (std::int64_t j = begin; j < end; ++j)
      offset.data<float>()[j] =
          static_cast<float>(most * (2 * rng.uniform(static_cast<std::uint64_t>(j)) - 1));
  }
  return offset;
}

/// sum += weight x, of a batch and of its samples.
void add_weighted(const LossSum& x, double weight, std::span<const LossSum> x_of_sample, LossSum& sum,
                  std::span<LossSum> of_sample) {
  sum.sum += weight * x.sum;
  sum.count = x.count;
  for (std::size_t i = 0; i < of_sample.size(); ++i) {
    of_sample[i].sum += weight * x_of_sample[i].sum;
    of_sample[i].count = x_of_sample[i].count;
  }
}

std::string text_of_attack(const AdversarialOptions& o) {
  std::string text = concat("adversarial ", name_of(o.method), ", epsilon ", o.epsilon);
  if (o.method != AdversarialMethod::kFgm) text += concat(", step_size ", o.step_size, ", steps ", o.steps);
  if (o.method != AdversarialMethod::kFreeLb) text += concat(", loss_weight ", o.loss_weight);
  return text;
}

}  // namespace

std::string_view name_of(AdversarialMethod method) noexcept {
  return kAdversarialMethods[static_cast<std::size_t>(method)];
}

std::optional<AdversarialMethod> adversarial_method_from_name(std::string_view name) noexcept {
  const auto found = std::ranges::find(kAdversarialMethods, name);
  if (found == kAdversarialMethods.end()) return std::nullopt;
  return static_cast<AdversarialMethod>(found - kAdversarialMethods.begin());
}

AdversarialObjective::AdversarialObjective(std::shared_ptr<Objective> inner, AdversarialOptions options) try
    : WrappedObjective(text_of_attack(options), std::move(inner)), options_(options) {
  const auto require = [](std::string_view name, auto value, bool holds, std::string_view expected) {
    if (!holds) fail<ArgumentError>(kAdversarial, name, " is ", value, ", expected ", expected);
  };
  require("epsilon", options.epsilon, options.epsilon > 0 && std::isfinite(options.epsilon), "more than 0");
  require("step_size", options.step_size, options.step_size > 0 && std::isfinite(options.step_size),
          "more than 0");
  require("steps", options.steps, options.steps >= 1, "1 or more");
  require("loss_weight", options.loss_weight, options.loss_weight >= 0 && std::isfinite(options.loss_weight),
          "0 or more");
} catch (...) {
  rethrow_with_memory_errors(kAdversarial);
}

LossSum AdversarialObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                   const ObjectiveOptions& options) const try {
  if (options.embedding_offset != nullptr)
    fail<ArgumentError>(kAdversarial, "an embedding_offset is given, but it is for the objective to choose");
  if (options.tape == nullptr) return inner().loss(network, samples, arena, options);
  return options_.method == AdversarialMethod::kFreeLb ? for_free(network, samples, arena, options)
                                                       : around_the_text(network, samples, arena, options);
} catch (...) {
  rethrow_with_memory_errors(kAdversarial);
}

LossSum AdversarialObjective::around_the_text(const Gpt2& network, std::span<const Sample> samples,
                                              Arena& arena, const ObjectiveOptions& options) const {
  const bool one_step = options_.method == AdversarialMethod::kFgm;
  const double step = one_step ? options_.epsilon : options_.step_size;
  EmbeddingOffset at;
  ObjectiveOptions pass = options;
  pass.embedding_offset = &at;
  LossSum sum;
  {
    const Arena::Scope scope(arena);
    sum = inner().loss(network, samples, arena, pass);
    options.tape->backward(options.stop);
  }
  ascend(at, step, options_.epsilon);
  Tape of_embeddings;  // which no weight is known to
  for (std::int64_t k = 1; !one_step && k < options_.steps; ++k) {
    ObjectiveOptions looking = pass;
    looking.tape = &of_embeddings;
    looking.per_sample = {};
    const Arena::Scope scope(arena);
    inner().loss(network, samples, arena, looking);
    of_embeddings.backward(options.stop);
    ascend(at, step, options_.epsilon);
  }
  std::vector<LossSum> of_sample(options.per_sample.size());
  pass.per_sample = of_sample;
  pass.scale = options.scale * options_.loss_weight;
  const LossSum worst = inner().loss(network, samples, arena, pass);
  options.tape->backward(options.stop);  // while the offset is there
  add_weighted(worst, options_.loss_weight, of_sample, sum, options.per_sample);
  return sum;
}

LossSum AdversarialObjective::for_free(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                       const ObjectiveOptions& options) const {
  const double part = 1 / static_cast<double>(options_.steps);
  EmbeddingOffset at;
  at.make = [&](const EmbeddingOffset& batch, const Shape& shape) {
    return random_offset(batch, shape, options_.epsilon, options.dropout.value_or(DropoutSeed{}));
  };
  std::vector<LossSum> of_sample(options.per_sample.size());
  ObjectiveOptions pass = options;
  pass.embedding_offset = &at;
  pass.scale = options.scale * part;
  pass.per_sample = of_sample;
  LossSum sum;
  std::ranges::fill(options.per_sample, LossSum{});
  for (std::int64_t k = 0; k < options_.steps; ++k) {
    const Arena::Scope scope(arena);
    const LossSum there = inner().loss(network, samples, arena, pass);
    options.tape->backward(options.stop);
    add_weighted(there, part, of_sample, sum, options.per_sample);
    if (k + 1 < options_.steps) ascend(at, options_.step_size, options_.epsilon);
  }
  return sum;
}

}  // namespace gpt
