#include "gpt/train/objectives.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/evaluate/classification.h"

namespace gpt {
namespace {

constexpr std::string_view kObjective = "objective";

/// Of answers that are one class each.
class ClassMetrics final : public Metrics {
 public:
  explicit ClassMetrics(std::int64_t classes) : classes_(classes) {}

  void add(const Sample& sample, std::span<const float> output) override try {
    truth_.push_back(static_cast<std::int32_t>(sample.targets.front()));
    answers_.push_back(static_cast<std::int32_t>(std::ranges::max_element(output) - output.begin()));
  } catch (...) {
    rethrow_with_memory_errors(kObjective);
  }
  Values values() const override try {
    const ClassificationScores scores = classification_scores(truth_, answers_, classes_);
    return {{"accuracy", scores.accuracy}, {"macro_f1", scores.macro.f1}};
  } catch (...) {
    rethrow_with_memory_errors(kObjective);
  }

 private:
  std::int64_t classes_;
  std::vector<std::int32_t> truth_, answers_;
};

/// Of answers that are yes or no for each label.
class LabelMetrics final : public Metrics {
 public:
  explicit LabelMetrics(std::int64_t labels)
      : right_(static_cast<std::size_t>(labels)), told_(right_), true_(right_) {}

  void add(const Sample& sample, std::span<const float> output) override {
    bool all = true;
    for (std::size_t i = 0; i < right_.size(); ++i) {
      const bool is_so = sample.targets[i] >= 0.5f, told = output[i] > 0;
      right_[i] += is_so && told;
      told_[i] += told;
      true_[i] += is_so;
      all = all && is_so == told;
    }
    all_right_ += all;
    ++count_;
  }
  Values values() const override try {
    double f1 = 0;
    for (std::size_t i = 0; i < right_.size(); ++i)
      if (told_[i] + true_[i] > 0)
        f1 += 2 * static_cast<double>(right_[i]) / static_cast<double>(told_[i] + true_[i]);
    return {{"accuracy", static_cast<double>(all_right_) / static_cast<double>(count_)},
            {"macro_f1", f1 / static_cast<double>(right_.size())}};
  } catch (...) {
    rethrow_with_memory_errors(kObjective);
  }

 private:
  std::vector<std::int64_t> right_, told_, true_;
  std::int64_t all_right_ = 0, count_ = 0;
};

class NumberMetrics final : public Metrics {
 public:
  void add(const Sample& sample, std::span<const float> output) override {
    for (std::size_t i = 0; i < output.size(); ++i) {
      const double error = static_cast<double>(output[i]) - static_cast<double>(sample.targets[i]);
      squares_ += error * error;
      sum_ += std::fabs(error);
      ++count_;
    }
  }
  Values values() const override try {
    const auto n = static_cast<double>(count_);
    return {{"mean_squared_error", squares_ / n}, {"mean_absolute_error", sum_ / n}};
  } catch (...) {
    rethrow_with_memory_errors(kObjective);
  }

 private:
  double squares_ = 0, sum_ = 0;
  std::int64_t count_ = 0;
};

std::vector<TargetedSequence> targeted(std::span<const Sample> samples) {
  std::vector<TargetedSequence> batch;
  for (const Sample& s : samples) batch.push_back({s.ids, s.targets});
  return batch;
}

}  // namespace

void Objective::add_penalty(const Parameters&) const {}
void Objective::visit(const nn::Adapter::Visitor&) {}
std::unique_ptr<Metrics> Objective::metrics() const { return nullptr; }
void Objective::save(const Model& model, const std::filesystem::path& directory) const {
  model.save(directory);
}

LossSum RowObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                           const ObjectiveOptions& options) const {
  return sum_of_losses(rows(network, samples, arena, options), options.tape, options.scale, arena,
                       options.stop, options.per_sample);
}

WrappedObjective::WrappedObjective(std::string what, std::shared_ptr<Objective> inner) try
    : what_(std::move(what)), inner_(std::move(inner)) {
  if (inner_ == nullptr) fail<ArgumentError>(kObjective, "there is none to be around: ", what_);
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

std::string WrappedObjective::describe() const try {
  const std::string inner = inner_->describe();
  return inner.empty() ? what_ : concat(inner, ", ", what_);
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

LanguageModelObjective::LanguageModelObjective(BatchLoss loss, double label_smoothing_factor,
                                               bool first_tokens)
    : loss_(std::move(loss)), label_smoothing_factor_(label_smoothing_factor), first_tokens_(first_tokens) {
  ops::CrossEntropy{label_smoothing_factor};  // which checks it
}

std::int64_t LanguageModelObjective::terms(const Sample& sample) const {
  return count_labels({sample.ids, sample.labels}, first_tokens_);
}

LossRows LanguageModelObjective::rows(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                      const ObjectiveOptions& options) const try {
  std::vector<LabelledSequence> sequences;
  for (const Sample& s : samples) sequences.push_back({s.ids, s.labels});
  return language_model_rows(
      network, sequences, arena,
      {.tape = options.tape,
       .dropout = options.dropout,
       .gradient_checkpointing = options.gradient_checkpointing,
       .activations = options.activations,
       .embedding_offset = options.embedding_offset,
       .stop = options.stop,
       .first_tokens = first_tokens_,
       .loss = loss_ ? loss_(samples) : ops::RowLoss(ops::CrossEntropy(label_smoothing_factor_))});
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

std::string LanguageModelObjective::describe() const { return loss_ ? "one of its own" : ""; }

ClassificationObjective::ClassificationObjective(Classifier& classifier, ClassificationOptions options)
    : classifier_(classifier), options_(std::move(options)) {
  const bool single = classifier.problem_type() == ProblemType::kSingleLabel;
  ops::CrossEntropy{options_.label_smoothing_factor};
  if (options_.label_smoothing_factor != 0 && !single)
    fail<ArgumentError>(kObjective, "label_smoothing_factor is ", options_.label_smoothing_factor,
                        ", which is for ", name_of(ProblemType::kSingleLabel), " alone");
  if (options_.class_weights.empty()) return;
  if (classifier.problem_type() == ProblemType::kRegression)
    fail<ArgumentError>(kObjective, "class_weights are given, but a regression has no classes");
  if (options_.class_weights.size() != static_cast<std::size_t>(classifier.num_labels()))
    fail<ArgumentError>(kObjective, options_.class_weights.size(),
                        " class_weights, expected one for each of ", classifier.num_labels(), " labels");
  for (const double weight : options_.class_weights)
    if (!(weight >= 0) || !std::isfinite(weight))
      fail<ArgumentError>(kObjective, "a weight of class_weights is ", weight, ", expected 0 or more");
}

std::int64_t ClassificationObjective::terms(const Sample&) const {
  return classifier_.problem_type() == ProblemType::kSingleLabel ? 1 : classifier_.num_labels();
}

ClassificationLossOptions ClassificationObjective::loss_options(const ObjectiveOptions& options) const {
  return {.tape = options.tape,
          .scale = options.scale,
          .dropout = options.dropout,
          .gradient_checkpointing = options.gradient_checkpointing,
          .activations = options.activations,
          .embedding_offset = options.embedding_offset,
          .stop = options.stop,
          .per_sequence = options.per_sample,
          .label_smoothing_factor = options_.label_smoothing_factor,
          .class_weights = options_.class_weights};
}

LossRows ClassificationObjective::rows(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                       const ObjectiveOptions& options) const try {
  if (&network != &classifier_.model().network())
    fail<ArgumentError>(kObjective, "the network is not that of the objective's classifier");
  ClassificationLossOptions of_rows = loss_options(options);
  of_rows.per_sequence = {};
  return classification_rows(classifier_, targeted(samples), arena, of_rows);
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

LossSum ClassificationObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                      const ObjectiveOptions& options) const try {
  if (options.outputs == nullptr) return RowObjective::loss(network, samples, arena, options);
  if (&network != &classifier_.model().network())
    fail<ArgumentError>(kObjective, "the network is not that of the objective's classifier");
  const std::int64_t count = static_cast<std::int64_t>(samples.size()), labels = classifier_.num_labels();
  ClassificationLossOptions with_logits = loss_options(options);
  with_logits.logits = arena.take({count, labels});
  const LossSum sum = classification_loss(classifier_, targeted(samples), arena, with_logits);
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = with_logits.logits.data<float>() + i * labels;
    options.outputs->emplace_back(row, row + labels);
  }
  return sum;
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

std::unique_ptr<Metrics> ClassificationObjective::metrics() const try {
  switch (classifier_.problem_type()) {
    case ProblemType::kSingleLabel: return std::make_unique<ClassMetrics>(classifier_.num_labels());
    case ProblemType::kMultiLabel: return std::make_unique<LabelMetrics>(classifier_.num_labels());
    default: return std::make_unique<NumberMetrics>();
  }
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

std::string ClassificationObjective::describe() const try {
  std::string text = concat(name_of(classifier_.problem_type()), " of ", classifier_.num_labels());
  if (options_.label_smoothing_factor != 0)
    text += concat(", label_smoothing_factor ", options_.label_smoothing_factor);
  for (std::size_t i = 0; i < options_.class_weights.size(); ++i)
    text += concat(i == 0 ? ", class_weights " : " ", options_.class_weights[i]);
  return text;
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

void ClassificationObjective::save(const Model&, const std::filesystem::path& directory) const {
  classifier_.save(directory);
}

std::vector<double> balanced_weights(std::span<const std::int64_t> samples_of_class) try {
  const DefaultFloatEnvironment environment;
  for (const std::int64_t n : samples_of_class)
    if (n < 0) fail<ArgumentError>(kObjective, "a class has ", n, " samples, expected 0 or more");
  const auto all = std::accumulate(samples_of_class.begin(), samples_of_class.end(), std::int64_t{0});
  std::vector<double> weights;
  for (const std::int64_t n : samples_of_class)
    weights.push_back(n == 0 ? 1
                             : static_cast<double>(all) /
                                   (static_cast<double>(samples_of_class.size()) * static_cast<double>(n)));
  return weights;
} catch (...) {
  rethrow_with_memory_errors(kObjective);
}

}  // namespace gpt
