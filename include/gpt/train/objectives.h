// What a training lowers: the loss of samples, as the one training loop sees it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/models/classifier.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/loss_rows.h"
#include "gpt/models/model.h"
#include "gpt/ops/loss.h"
#include "gpt/train/dataset.h"

namespace gpt {

class Parameters;

/// Makes the loss of one batch, of training or of an evaluation, from its samples: what transformers calls compute_loss_func.
/// The rows that it gets are those that are fed: LossRow::index counts ids[0..n-1) of all samples, one after the other.
/// A function of the samples alone; the samples stay until the batch is done.
using BatchLoss = std::function<ops::RowLoss(std::span<const Sample> samples)>;

/// How Objective::loss is to be computed.
struct ObjectiveOptions {
  Tape* tape = nullptr;  // receives the gradient of scale times the sum of the losses; null: an evaluation
  double scale = 1;
  std::optional<DropoutSeed> dropout = {};      // as ForwardOptions
  bool gradient_checkpointing = false;          // as ForwardOptions
  DType activations = DType::f32;               // as ForwardOptions
  EmbeddingOffset* embedding_offset = nullptr;  // as ForwardOptions: of the pass whose gradient is taken
  std::stop_token stop = {};                    // asked before every matrix product
  std::span<LossSum> per_sample = {};           // receives the sum of each sample, unless empty
  /// Unless null, and where the objective has metrics: gets, behind what it holds, what those of each sample are made of (logits).
  std::vector<std::vector<float>>* outputs = nullptr;
};

/// What an evaluation tells beside the loss.
class Metrics {
 public:
  using Values = std::vector<std::pair<std::string, double>>;  // accuracy, macro_f1

  virtual ~Metrics() = default;
  /// Takes one sample in, in the order of the data set.
  virtual void add(const Sample& sample, std::span<const float> output) = 0;
  /// Of all that were added.
  virtual Values values() const = 0;
};

/// The loss that a Trainer lowers, beside it the parameters that it has of its own, and what is measured in an evaluation. Derive from it
/// for a head or a loss of one's own: the network is run by Gpt2::forward with the tape of the options, and what is computed from its
/// results is recorded on that tape too (gpt/autograd/ops.h), or is given to it as a gradient (Tape::seed).
class Objective {
 public:
  virtual ~Objective() = default;

  /// How many terms the loss of a sample has: a mean loss is one over terms. Of the sample alone.
  virtual std::int64_t terms(const Sample& sample) const = 0;
  /// How many tokens of a sample of `ids` ids (Dataset::length) are fed: for what is reported.
  /// TrainingArguments::max_tokens_per_batch counts ids - 1.
  virtual std::int64_t fed(std::int64_t ids) const noexcept { return ids; }
  /// The sum of the losses of a batch, and of their terms. Without a tape, a sample's loss does not depend on the others.
  virtual LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                       const ObjectiveOptions& options) const = 0;

  /// Adds to the gradients, once they are complete and before they are clipped, those of what is added to the loss of weights as they
  /// are, whatever the samples: nothing, unless it is overridden.
  virtual void add_penalty(const Parameters& parameters) const;
  /// Shows every float32 tensor that is learned beside the network, with its name and shape. They stay where they are.
  virtual void visit(const nn::Adapter::Visitor& f);
  /// For one evaluation; null: there is nothing to tell but the loss. An objective that has metrics gives ObjectiveOptions::outputs.
  virtual std::unique_ptr<Metrics> metrics() const;
  /// What it is and how it was made: what two runs that shall be the same have in common.
  virtual std::string describe() const = 0;
  /// Writes what is learned as the files of a checkpoint. The tensors of visit() need not be in them: the training keeps them, too.
  virtual void save(const Model& model, const std::filesystem::path& directory) const;
};

/// An objective whose loss is a sum over rows of logits: what those need that look at more of a batch than its loss.
class RowObjective : public Objective {
 public:
  /// The pass over these samples, on the tape of the options, if there is one; each is a sequence of the rows. `outputs` and `per_sample` are
  /// not for it. The samples must live as long as the rows.
  virtual LossRows rows(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                        const ObjectiveOptions& options) const = 0;
  /// sum_of_losses of the rows.
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;
};

/// An objective around another one, which it is but for what is overridden: the loss of a training, usually.
class WrappedObjective : public Objective {
 public:
  /// `what` it adds, for describe(). Throws ArgumentError where there is none to be around.
  WrappedObjective(std::string what, std::shared_ptr<Objective> inner);

  std::int64_t terms(const Sample& sample) const override { return inner_->terms(sample); }
  std::int64_t fed(std::int64_t ids) const noexcept override { return inner_->fed(ids); }
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override {
    return inner_->loss(network, samples, arena, options);
  }
  void visit(const nn::Adapter::Visitor& f) override { inner_->visit(f); }
  void add_penalty(const Parameters& parameters) const override { inner_->add_penalty(parameters); }
  std::unique_ptr<Metrics> metrics() const override { return inner_->metrics(); }
  /// That of the inner one with `what` behind it.
  std::string describe() const override;
  void save(const Model& model, const std::filesystem::path& directory) const override {
    inner_->save(model, directory);
  }

 protected:
  const Objective& inner() const noexcept { return *inner_; }

 private:
  std::string what_;
  std::shared_ptr<Objective> inner_;
};

/// language_model_loss: of Sample::labels.
class LanguageModelObjective final : public RowObjective {
 public:
  /// `loss`, when it is set, instead of ops::CrossEntropy. first_tokens: as LossOptions, for a network with virtual tokens. Throws
  /// as CrossEntropy.
  explicit LanguageModelObjective(BatchLoss loss = {}, double label_smoothing_factor = 0,
                                  bool first_tokens = false);

  std::int64_t terms(const Sample& sample) const override;
  std::int64_t fed(std::int64_t ids) const noexcept override { return ids - 1; }
  LossRows rows(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                const ObjectiveOptions& options) const override;
  std::string describe() const override;

 private:
  BatchLoss loss_;
  double label_smoothing_factor_;
  bool first_tokens_;
};

struct ClassificationOptions {
  double label_smoothing_factor = 0;       // as ClassificationLossOptions
  std::vector<double> class_weights = {};  // as ClassificationLossOptions; balanced_weights makes them
};

/// classification_loss of a classifier: of Sample::targets. What it measures, by the classifier's problem_type:
///   single_label_classification   accuracy, macro_f1
///   multi_label_classification    accuracy (all labels of a sample right), macro_f1 (a label is told at a probability of 1/2)
///   regression                    mean_squared_error, mean_absolute_error, over all numbers
class ClassificationObjective final : public RowObjective {
 public:
  /// For a Trainer of classifier.model(); the classifier must outlive it. Throws ArgumentError for options that its problem_type does
  /// not take.
  explicit ClassificationObjective(Classifier& classifier, ClassificationOptions options = {});

  std::int64_t terms(const Sample& sample) const override;
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;
  LossRows rows(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                const ObjectiveOptions& options) const override;
  void visit(const nn::Adapter::Visitor& f) override { classifier_.visit_head(f); }
  std::unique_ptr<Metrics> metrics() const override;
  std::string describe() const override;
  void save(const Model& model, const std::filesystem::path& directory) const override;

 private:
  ClassificationLossOptions loss_options(const ObjectiveOptions& options) const;

  Classifier& classifier_;
  ClassificationOptions options_;
};

/// Weights that make classes count alike, however many samples they have: samples / (classes x samples of the class), scikit-learn's
/// class_weight="balanced". The mean over the samples is 1. A class without samples has weight 1. Throws ArgumentError for a negative
/// count.
std::vector<double> balanced_weights(std::span<const std::int64_t> samples_of_class);

}  // namespace gpt
