#include "gpt/train/continual.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/fingerprint.h"
#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/bfloat16.h"
#include "gpt/train/batches.h"
#include "gpt/train/parameters.h"
#include "train/dataset_checks.h"
#include "train/plain_matrices.h"

namespace gpt {
namespace {

constexpr std::string_view kReplay = "replay";
constexpr std::string_view kEwc = "ewc";
constexpr std::int64_t kEwcGrain = 1 << 14;  // elements that are worth waking a thread for

std::vector<std::int64_t> chosen_of(std::int64_t old, std::int64_t count, std::uint64_t seed) {
  if (old < 1) fail<ArgumentError>(kReplay, "there are no old samples");
  std::vector<std::int64_t> chosen;
  for (std::int64_t epoch = 0; std::ssize(chosen) < count; ++epoch) {
    const std::vector<std::int64_t> order = epoch_order(old, seed, epoch);
    chosen.insert(chosen.end(), order.begin(), order.begin() + std::min(old, count - std::ssize(chosen)));
  }
  return chosen;
}

std::int64_t count_replayed(std::int64_t fresh, double fraction) {
  if (!(fraction > 0 && fraction <= 100))
    fail<ArgumentError>(kReplay, "fraction is ", fraction, ", expected more than 0, at most 100");
  return std::max<std::int64_t>(1, std::llround(fraction * static_cast<double>(fresh)));
}

/// The float32 value of a parameter, which is copied only where it is split.
Tensor whole_value(const Parameter& p) {
  if (p.rest.raw() == nullptr) return Tensor::borrow({}, p.value.raw(), p.value.shape(), DType::f32);
  Tensor whole = Tensor::empty(p.value.shape());
  ops::join(p.value, p.rest, whole);
  return whole;
}

const FisherInformation& given_information(const std::shared_ptr<const FisherInformation>& information) {
  if (information == nullptr) fail<ArgumentError>(kEwc, "there is no information about old data");
  return *information;
}

/// Calls f(parameter, entry) for all that the information names. None would hold nothing, and nobody would know.
template <class F>
void for_named(const Parameters& parameters, const FisherInformation& information, const F& f) {
  bool any = false;
  for (const Parameter& p : parameters.all()) {
    const auto entry = std::ranges::find(information.entries(), p.name, &FisherInformation::Entry::name);
    if (entry == information.entries().end()) continue;
    if (entry->fisher.shape() != p.value.shape())
      fail<ShapeError>(kEwc, p.name, " has shape ", p.value.shape().to_string(), ", expected ",
                       entry->fisher.shape().to_string(), ", as the old one");
    f(p, *entry);
    any = true;
  }
  if (!any)
    fail<ArgumentError>(kEwc,
                        "the information names none of the parameters that are learned: an adapter was "
                        "attached, or detached, since");
}

}  // namespace

ReplayDataset::ReplayDataset(const Dataset& fresh, const Dataset& old, double fraction,
                             std::uint64_t seed) try
    : fresh_(fresh), old_(old), chosen_(chosen_of(old.size(), count_replayed(fresh.size(), fraction), seed)) {
} catch (...) {
  rethrow_with_memory_errors(kReplay);
}

Sample ReplayDataset::at(std::int64_t index) const {
  require_index(kReplay, index, size());
  return index < fresh_.size() ? fresh_.at(index)
                               : old_.at(chosen_[static_cast<std::size_t>(index - fresh_.size())]);
}

std::int64_t ReplayDataset::length(std::int64_t index) const {
  require_index(kReplay, index, size());
  return index < fresh_.size() ? fresh_.length(index)
                               : old_.length(chosen_[static_cast<std::size_t>(index - fresh_.size())]);
}

std::uint64_t ReplayDataset::fingerprint() const noexcept {
  Fingerprint sum;
  sum.add(fresh_.fingerprint()).add(old_.fingerprint());
  for (const std::int64_t index : chosen_) sum.add(index);
  return sum.value();
}

FisherInformation::FisherInformation(Model& model, Objective& objective, const Dataset& old,
                                     const FisherOptions& options) {
  if (options.samples < 0) fail<ArgumentError>(kEwc, "samples is ", options.samples, ", expected 0 or more");
  const DefaultFloatEnvironment environment;
  with_memory_errors(kEwc, [&] {
    if (model.network().adapter() == nullptr) make_plain(model.network(), kEwc);
    Parameters parameters(model.network(), options.learns, DType::f32,
                          [&](const nn::Adapter::Visitor& f) { objective.visit(f); });
    for (const Parameter& p : parameters.all())
      entries_.push_back({p.name, whole_value(p).clone(), Tensor::zeros(p.value.shape())});
    std::vector<std::int64_t> order = epoch_order(old.size(), options.seed, 0);
    if (options.samples > 0) order.resize(static_cast<std::size_t>(std::min(options.samples, old.size())));
    Tape tape;
    parameters.watch(tape);
    Arena arena;
    std::int64_t terms = 0;
    for (const std::int64_t index : order) {
      const Sample sample = old.at(index);
      terms += objective.terms(sample);
      parameters.zero_gradients();
      parameters.lend_gradients(tape);
      arena.reset();
      objective.loss(model.network(), {&sample, 1}, arena, {.tape = &tape, .stop = options.stop});
      tape.backward(options.stop);
      for (std::size_t i = 0; i < entries_.size(); ++i) {
        const float* gradient = parameters.all()[i].gradient.data<float>();
        float* fisher = entries_[i].fisher.data<float>();
        parallel_for(entries_[i].fisher.numel(), kEwcGrain,
                     [&](std::int64_t begin, std::int64_t end) noexcept {
                       for (std::int64_t j = begin; j < end; ++j) fisher[j] += gradient[j] * gradient[j];
                     });
      }
    }
    const float each = static_cast<float>(1 / static_cast<double>(std::max<std::int64_t>(1, terms)));
    for (Entry& entry : entries_) {
      float* fisher = entry.fisher.data<float>();
      parallel_for(entry.fisher.numel(), kEwcGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t j = begin; j < end; ++j) fisher[j] *= each;
      });
    }
  });
}

std::uint64_t FisherInformation::fingerprint() const noexcept {
  Fingerprint sum;
  for (const Entry& entry : entries_) {
    sum.add(entry.name);
    for (const Tensor* part : {&entry.weights, &entry.fisher})
      sum.add({reinterpret_cast<const char*>(part->view().raw()), part->nbytes()});
  }
  return sum.value();
}

EwcObjective::EwcObjective(std::shared_ptr<Objective> inner,
                           std::shared_ptr<const FisherInformation> information, double lambda)
    : WrappedObjective(
          concat("ewc, lambda ", lambda, ", information ", given_information(information).fingerprint()),
          std::move(inner)),
      information_(std::move(information)),
      lambda_(lambda) {
  if (!(lambda >= 0) || !std::isfinite(lambda))
    fail<ArgumentError>(kEwc, "lambda is ", lambda, ", expected 0 or more");
}

void EwcObjective::add_penalty(const Parameters& parameters) const {
  inner().add_penalty(parameters);
  const auto lambda = static_cast<float>(lambda_);
  for_named(parameters, *information_, [&](const Parameter& p, const FisherInformation::Entry& entry) {
    const Tensor now = whole_value(p);
    const float* const value = now.data<float>();
    const float* const old = entry.weights.data<float>();
    const float* const fisher = entry.fisher.data<float>();
    TensorView sums = p.gradient;
    float* const gradient = sums.data<float>();
    parallel_for(now.numel(), kEwcGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t j = begin; j < end; ++j) gradient[j] += lambda * fisher[j] * (value[j] - old[j]);
    });
  });
}

double EwcObjective::penalty(const Parameters& parameters) const {
  const DefaultFloatEnvironment environment;
  double sum = 0;
  for_named(parameters, *information_, [&](const Parameter& p, const FisherInformation::Entry& entry) {
    const Tensor now = whole_value(p);
    for (std::int64_t j = 0; j < now.numel(); ++j) {
      const double apart =
          static_cast<double>(now.data<float>()[j]) - static_cast<double>(entry.weights.data<float>()[j]);
      sum += static_cast<double>(entry.fisher.data<float>()[j]) * apart * apart;
    }
  });
  return lambda_ / 2 * sum;
}

}  // namespace gpt
