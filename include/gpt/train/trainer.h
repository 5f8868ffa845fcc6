// The training loop: batches, gradients, updates, evaluation, checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/directory_lock.h"
#include "gpt/models/model.h"
#include "gpt/peft/lora.h"
#include "gpt/train/batches.h"
#include "gpt/train/dataset.h"
#include "gpt/train/objectives.h"
#include "gpt/train/schedule.h"

namespace gpt {

/// The names, defaults and meaning of transformers' TrainingArguments; what is not a transformers option says so.
struct TrainingArguments {
  double learning_rate = 5e-5;
  LrScheduler lr_scheduler_type = LrScheduler::kLinear;
  std::int64_t warmup_steps = 0;
  double warmup_ratio = 0;           // of all steps, rounded up; ignored when warmup_steps is set
  double min_lr_rate = 0;            // lr_scheduler_kwargs
  std::int64_t num_decay_steps = 0;  // lr_scheduler_kwargs
  double num_train_epochs = 3;
  std::int64_t max_steps = -1;  // positive: so many updates, whatever num_train_epochs says

  std::optional<std::int64_t> per_device_train_batch_size = {};  // 8 unless max_tokens_per_batch is set
  std::int64_t per_device_eval_batch_size = 8;
  std::optional<std::int64_t> max_tokens_per_batch = {};  // libgpt's: see BatchOptions
  std::int64_t gradient_accumulation_steps = 1;

  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;         // 0: no clipping
  double label_smoothing_factor = 0;  // of every loss, that of an evaluation as well: see ops::CrossEntropy
  /// libgpt's: an exponential moving average of the weights, average = ema_decay average + (1 - ema_decay) weights in float32
  /// after every update, begun with the weights after the first (as torch.optim.swa_utils). 0: none. With it the average is
  /// what is evaluated and, on_evaluate included, what the model has then and after fit(); checkpoints hold both, the weights
  /// as their model. A run that is stopped or fails leaves the weights.
  double ema_decay = 0;
  /// libgpt's: the mean of the weights after each update instead, from this part of all updates on (Izmailov et al., "Averaging Weights Leads
  /// to Wider Optima and Better Generalization", arXiv 1803.05407, with a constant or cyclical rate). 0: none; less than 1, and not beside
  /// ema_decay. Before the mean begins the weights are what is evaluated.
  double swa_start = 0;
  /// libgpt's: what the rate is multiplied by for each layer further down, more than 0, at most 1 (discriminative fine-tuning: Howard and
  /// Ruder, arXiv 1801.06146; ELECTRA's name): d^0 for the head, the last norm and an objective's own parameters, d^1 for the top block, ...,
  /// d^n_layer for the lowest, d^(n_layer + 1) for token and position embeddings, a tied head among them. An adapter's parameters count as
  /// the block that their names say.
  double layerwise_lr_decay = 1;
  /// libgpt's: what the rate is multiplied by beside that, by a parameter's name; 0 or more. Unset: 1. Not for an objective's own.
  std::function<double(std::string_view name)> learning_rate_factor_of = {};
  /// libgpt's: gradual unfreezing (Howard and Ruder, section 3.3). A run begins with the head and the last norm alone, where the objective has
  /// parameters of its own, or else with the top block, too; after every so many updates, or epochs, one block more begins to learn, from the
  /// top, and the embeddings last. What is frozen keeps its bits and costs no gradients. 0: all learn from the beginning. One of them at most;
  /// not for adapters.
  std::int64_t unfreeze_steps = 0, unfreeze_epochs = 0;
  std::uint64_t seed = 42;
  bool gradient_checkpointing = false;  // less memory for more time, and the same bits: see ForwardOptions
  /// Compute with bfloat16 in memory, and learn in float32. All arithmetic is float32; what is stored as what:
  ///   weights, biases, layer norms   bfloat16 for the network, and the 16 bits that they lack of float32 for the optimizer
  ///   activations inside a block     bfloat16 (ForwardOptions::activations), the sums between blocks float32
  ///   gradients, moments             float32
  /// An evaluation in fit() is of the bfloat16 weights, with float32 activations. Checkpoints hold both halves of the weights;
  /// after fit() the model has the float32 ones. Model::save with SaveOptions::dtype bf16 writes what was computed with.
  bool bf16 = false;
  /// libgpt's: train a new adapter, made from `seed`, instead of the model, whose network it is attached to.
  std::optional<LoraConfig> lora = {};
  /// libgpt's: the parameters of the network, or of its adapter, that are learned, by name; the others keep their bits, and take no
  /// memory for gradients and moments. Unset: all. One that holds for none is for an objective with parameters of its own.
  std::function<bool(std::string_view name)> learns = {};

  std::int64_t logging_steps = 500;
  std::int64_t eval_steps = 0;    // 0: at the end of every epoch
  std::int64_t save_steps = 500;  // 0: only at the end
  std::optional<std::int64_t> save_total_limit =
      {};  // of checkpoints; the last stays, and the best with load_best_model_at_end
  bool load_best_model_at_end = false;  // see metric_for_best_model
  /// "loss", of which the smallest is the best, or one of the objective's metrics (accuracy, macro_f1).
  std::string metric_for_best_model = "loss";
  std::optional<bool> greater_is_better =
      {};  // unset: of every metric but the loss, and those that end with "error"
  std::int64_t early_stopping_patience = 0;  // evaluations in a row without a better one; 0: never stop early

  /// Where checkpoints go: <output_dir>/checkpoint-<step>. Empty: none are written. A run has it for itself (DirectoryLock).
  std::filesystem::path output_dir = {};
  /// libgpt's: what the model is before the run, in words of one's own (Gpt2::fingerprint, say): a run is not resumed with
  /// another. Not for the model itself: it has the checkpoint's weights then.
  std::string initial_model = {};
  /// Go on from the last checkpoint in output_dir; without one, begin. A run that was interrupted at any moment and goes on
  /// ends with the bits of the run that was not.
  bool resume_from_checkpoint = false;

  /// Throws ArgumentError naming an option out of its range, or one that another rules out.
  void validate() const;
};

/// What the last logging_steps updates were like.
struct TrainingLog {
  std::int64_t step = 0, total_steps = 0;  // updates
  double epoch = 0;
  double loss = 0;           // mean over the labels since the last record, in nats
  double grad_norm = 0;      // of the last update, before clipping
  double learning_rate = 0;  // of the last update
  std::int64_t tokens = 0;   // fed since the run, or its resumption, began
  double tokens_per_s =
      0;  // of the updates since then or the last record: evaluations and saving do not count
};

struct EvaluationLog {
  std::int64_t step = 0;
  double epoch = 0;
  double eval_loss = 0;          // mean over all labels, in nats
  double perplexity = 0;         // e^eval_loss, of a language model; else NaN
  bool best = false;             // the best so far, by metric_for_best_model
  Metrics::Values metrics = {};  // of the objective
};

/// Called on the thread of fit(), in the default floating-point environment, whatever the host has set; so are the data sets.
/// What they throw ends fit() and reaches its caller, the model being as after the last whole update.
struct TrainingCallbacks {
  /// Once, before anything is learned: the step of the checkpoint that the run goes on from, if there is one.
  std::function<void(std::optional<std::int64_t> resumed)> on_begin = {};
  std::function<void(const TrainingLog&)> on_log = {};  // every logging_steps, and at the end
  std::function<void(const TrainingLog&)> on_step =
      {};  // every update, before on_log: what this one was like
  std::function<void(const EvaluationLog&)> on_evaluate = {};
  std::function<void(const std::filesystem::path& checkpoint)> on_save = {};
};

struct TrainingResult {
  std::int64_t global_step = 0;
  double training_loss = 0;                   // mean over all labels of the updates of this call
  std::optional<double> best_eval_loss = {};  // of the best evaluation
  std::optional<double> best_metric = {};     // of the same, what metric_for_best_model says
  std::int64_t best_step = 0;
  bool stopped_early = false;
};

/// Lowers an objective, a language model's loss unless another is given, in all parameters of a model, with dropout at the rates of its configuration; or, where an adapter is attached to its
/// network, that alone: the network may be mapped, packed or quantized then, and keeps its bits. The model must outlive it; it becomes
/// float32 with the first fit() (with TrainingArguments::bf16, when that is left: in bfloat16 where there was no memory for
/// more).
///
/// A loss of one's own, here with rare tokens counting twice:
///
///   gpt::Trainer trainer(model, arguments, [&](std::span<const gpt::Sample>) -> gpt::ops::RowLoss {
///     return [&](const gpt::ops::LossRow& row) {
///       const double weight = rare.contains(row.label) ? 2 : 1;
///       gpt::ops::LossRow scaled = row;
///       scaled.scale *= static_cast<float>(weight);
///       return weight * gpt::ops::CrossEntropy()(scaled);
///     };
///   });
class Trainer {
 public:
  /// Throws as TrainingArguments::validate, ArgumentError for a dropout rate of 1, and for `lora` where the model has an adapter;
  /// UnsupportedError naming a matrix to be trained that is packed or quantized. `loss`, when it is set, is that of fit() and evaluate() instead of ops::CrossEntropy; ArgumentError when
  /// label_smoothing_factor is set beside it. A run is resumed with a loss of one's own where it was begun with one; that it is
  /// the same is the caller's care.
  Trainer(Model& model, TrainingArguments arguments, BatchLoss loss = {});
  /// With another objective, and the parameters that it has of its own. Throws likewise; ArgumentError where there is none, and for
  /// label_smoothing_factor, which is the objective's then.
  ///
  ///   gpt::Classifier classifier(gpt::Model::load("gpt2"), {"negative", "positive"});
  ///   gpt::Trainer(classifier.model(), {.learning_rate = 5e-4}, std::make_shared<gpt::ClassificationObjective>(classifier))
  ///       .fit(train, &validation);
  Trainer(Model& model, TrainingArguments arguments, std::shared_ptr<Objective> objective);

  /// Runs all updates. Every loss is the mean over the labels of all gradient_accumulation_steps batches, as is transformers'.
  /// A stop leaves the model as it was after the last whole update, writes a checkpoint of it where there is an output_dir, and
  /// throws CancelledError. A loss or gradient that is not finite throws NumericError, the model being as before that update;
  /// where there is an output_dir and the loss is finite, a checkpoint of it is written. No checkpoint is written of weights
  /// that are not finite, and save_total_limit removes none before an update with a later one was finite, or the run has come to
  /// its end. Throws what the data set, AdamW, language_model_loss and Model::save throw; NumericError at its end for weights
  /// that are not finite; ArgumentError when output_dir holds another run, or the checkpoint that is resumed was made from other
  /// data or with another option, by its name; BusyError naming output_dir while another run is at work in it. The model is then
  /// as it was.
  TrainingResult fit(const Dataset& train, const Dataset* evaluation = nullptr,
                     const TrainingCallbacks& callbacks = {}, std::stop_token stop = {});

  /// Works under this lock of output_dir, where else each fit() takes its own: for who puts more there before or after.
  void use_lock(DirectoryLock lock) { lock_ = std::move(lock); }

  /// The mean loss over all labels of a data set, and the objective's metrics.
  EvaluationLog evaluate(const Dataset& dataset, std::stop_token stop = {}) const;

 private:
  void prepare();

  Model& model_;
  TrainingArguments arguments_;
  std::shared_ptr<Objective> objective_;
  std::optional<DirectoryLock> lock_;
};

/// Updates of a whole run over this data set.
std::int64_t total_steps(const Dataset& train, const TrainingArguments& arguments);

}  // namespace gpt
