#include "gpt/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/train/adamw.h"
#include "gpt/train/parameters.h"
#include "models/non_finite.h"
#include "train/learning_plan.h"
#include "train/plain_matrices.h"
#include "train/run_identity.h"
#include "train/training_checkpoint.h"
#include "train/weight_average.h"

namespace gpt {
namespace {

constexpr std::string_view kWhere = "trainer";
constexpr std::string_view kLoss = "loss";

AdamWOptions optimizer_options(const TrainingArguments& a) noexcept {
  return {.adam_beta1 = a.adam_beta1,
          .adam_beta2 = a.adam_beta2,
          .adam_epsilon = a.adam_epsilon,
          .weight_decay = a.weight_decay};
}

using Batches = std::vector<std::vector<std::int64_t>>;

Batches batches_of_epoch(const Dataset& data, const TrainingArguments& a, std::int64_t epoch) {
  BatchOptions options;
  options.max_tokens_per_batch = a.max_tokens_per_batch;
  options.per_device_train_batch_size = a.per_device_train_batch_size;
  return plan_batches(data, epoch_order(data.size(), a.seed, epoch), options);
}

std::int64_t rounded_up(std::int64_t n, std::int64_t by) noexcept { return (n + by - 1) / by; }

std::int64_t updates_of_epoch(const Dataset& data, const TrainingArguments& a, std::int64_t epoch) {
  if (!a.max_tokens_per_batch)
    return rounded_up(rounded_up(data.size(), a.per_device_train_batch_size.value_or(kBatchSize)),
                      a.gradient_accumulation_steps);
  return rounded_up(static_cast<std::int64_t>(batches_of_epoch(data, a, epoch).size()),
                    a.gradient_accumulation_steps);
}

/// Samples of a data set, as the objective sees them.
struct Batch {
  Batch(const Dataset& data, std::span<const std::int64_t> indices, const Objective& objective) {
    for (const std::int64_t i : indices) {
      const Sample& s = samples.emplace_back(data.at(i));
      labels += objective.terms(s);
      tokens += objective.fed(data.length(i));
    }
  }

  std::vector<Sample> samples;
  std::int64_t labels = 0, tokens = 0;  // that are learned, that are fed
};

/// What an evaluation is judged by. Throws ArgumentError for a metric that the objective does not have.
double judged(const EvaluationLog& record, const std::string& metric) {
  if (metric == kLoss) return record.eval_loss;
  std::string known(kLoss);
  for (const auto& [name, value] : record.metrics) {
    if (name == metric) return value;
    known += ", " + name;
  }
  fail<ArgumentError>(kWhere, "metric_for_best_model is ", metric, ", expected one of ", known);
}

void refuse_label_smoothing(const TrainingArguments& a) {
  if (a.label_smoothing_factor != 0)
    fail<ArgumentError>(kWhere, "label_smoothing_factor is ", a.label_smoothing_factor,
                        ", but a loss of its own is set, expected 0");
}

void refuse_unfreezing(const TrainingArguments& a) {
  if (a.unfreeze_steps == 0 && a.unfreeze_epochs == 0) return;
  fail<ArgumentError>(kWhere, a.unfreeze_steps != 0 ? "unfreeze_steps" : "unfreeze_epochs",
                      " is set, but an adapter is trained, and the network stays frozen");
}

/// The update whose weights begin the mean; 0: there is none.
std::int64_t begin_of_mean(const TrainingArguments& a, std::int64_t steps) {
  if (a.swa_start == 0) return 0;
  return std::max<std::int64_t>(
      1, static_cast<std::int64_t>(std::ceil(a.swa_start * static_cast<double>(steps))));
}

bool greater_is_better(const TrainingArguments& a) noexcept {
  return a.greater_is_better.value_or(a.metric_for_best_model != kLoss &&
                                      !a.metric_for_best_model.ends_with("error"));
}

/// The step of the checkpoint to go on from, if there is one.
std::optional<std::int64_t> step_to_resume(const TrainingArguments& a) {
  if (a.output_dir.empty()) return std::nullopt;
  const std::vector<std::int64_t> there = checkpoints_in(a.output_dir);
  if (there.empty()) return std::nullopt;
  if (!a.resume_from_checkpoint)
    fail<ArgumentError>(kWhere, a.output_dir.string(), " holds another run (",
                        checkpoint_path({}, there.back()).string(),
                        "): resume it, or choose another output_dir");
  return there.back();
}

/// total_steps, if there are random numbers for all of their batches: streams below 2^63, since initialize() takes some of
/// those above.
std::int64_t checked_steps(const Dataset& train, const TrainingArguments& a) {
  constexpr std::int64_t kMostBatches = (std::int64_t{1} << 31) - 1;
  const std::int64_t steps = total_steps(train, a);
  if (steps > kMostBatches / a.gradient_accumulation_steps)
    fail<ArgumentError>(kWhere, steps, " updates of ", a.gradient_accumulation_steps,
                        " batches, expected at most ", kMostBatches,
                        " batches: there are no random numbers for more");
  return steps;
}

EvaluationLog evaluate_objective(const Gpt2& network, const Objective& objective, const TrainingArguments& a,
                                 const Dataset& data, const std::stop_token& stop) {
  using Order = std::vector<std::int64_t>;
  Order order(container_size<Order>(static_cast<std::size_t>(data.size()), kWhere));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const Batches batches =
      plan_batches(data, order, {.per_device_train_batch_size = a.per_device_eval_batch_size});
  LossSum total;
  Arena arena;
  const std::unique_ptr<Metrics> metrics = objective.metrics();
  std::vector<std::vector<float>> outputs;
  for (const auto& indices : batches) {
    arena.reset();
    const Batch batch(data, indices, objective);
    std::vector<LossSum> sums(batch.samples.size());
    outputs.clear();
    objective.loss(network, batch.samples, arena,
                   {.stop = stop, .per_sample = sums, .outputs = metrics != nullptr ? &outputs : nullptr});
    if (metrics != nullptr && outputs.size() != sums.size())
      fail<ArgumentError>(kWhere, "the objective has metrics, but ", outputs.size(), " outputs of ",
                          sums.size(), " samples (ObjectiveOptions::outputs)");
    for (std::size_t i = 0; i < sums.size(); ++i) {  // one by one: the result does not depend on the batches
      total.sum += sums[i].sum;
      total.count += sums[i].count;
      if (metrics != nullptr) metrics->add(batch.samples[i], outputs[i]);
    }
  }
  EvaluationLog record;
  record.eval_loss = total.mean();
  record.perplexity = math::exp(record.eval_loss);
  if (metrics != nullptr) {
    record.perplexity = std::numeric_limits<double>::quiet_NaN();
    record.metrics = metrics->values();
  }
  return record;
}

/// How fast updates are.
struct Pace {
  double tokens_per_s() const noexcept { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

  std::int64_t tokens = 0;
  double seconds = 0;
};

/// One call of fit().
class Run {
 public:
  Run(Model& model, const TrainingArguments& arguments, Objective& objective, const Dataset& train,
      const Dataset* evaluation, const TrainingCallbacks& callbacks, std::stop_token stop)
      : model_(model),
        a_(arguments),
        objective_(objective),
        train_(train),
        evaluation_(evaluation),
        callbacks_(callbacks),
        stop_(std::move(stop)),
        resumed_(step_to_resume(arguments)),
        total_steps_(checked_steps(train, arguments)),
        parameters_(model.network(), a_.learns, a_.bf16 ? DType::bf16 : DType::f32,
                    [&](const nn::Adapter::Visitor& f) { objective.visit(f); }),
        optimizer_(parameters_, optimizer_options(a_)),
        plan_(parameters_, a_, model.network().config().n_layer, total_steps_,
              [&](std::int64_t epoch) { return updates_of_epoch(train, a_, epoch); }),
        average_(parameters_, a_.ema_decay, begin_of_mean(a_, total_steps_)),
        identity_(run_of(train, evaluation, arguments, objective, model, total_steps_)) {
    if (parameters_.adapter() != nullptr) parameters_.adapter()->begin_training(total_steps_);
    schedule_ = {.type = a_.lr_scheduler_type,
                 .warmup_steps = a_.warmup_steps,
                 .total_steps = total_steps_,
                 .min_lr_rate = a_.min_lr_rate,
                 .decay_steps = a_.num_decay_steps};
    if (a_.warmup_steps == 0)
      schedule_.warmup_steps =
          static_cast<std::int64_t>(std::ceil(a_.warmup_ratio * static_cast<double>(total_steps_)));
  }

  TrainingResult operator()() {
    begin();
    if (callbacks_.on_begin) callbacks_.on_begin(resumed_);
    try {
      if (evaluation_is_due()) evaluate();  // of a run that was stopped in it
      while (state_.global_step < total_steps_ && !stopped_early_) train_epoch();
    } catch (const CancelledError&) {
      save_if_finite();
      throw;
    } catch (const NumericError&) {
      if (loss_is_finite_) save_if_finite();
      throw;
    }
    if (!a_.output_dir.empty()) save();
    remove_old_checkpoints();
    if (a_.load_best_model_at_end && state_.best_eval_loss && state_.best_step != state_.global_step)
      load_parameters(checkpoint_path(a_.output_dir, state_.best_step), parameters_, average_);
    arena_ = {};
    parameters_.join();
    average_.keep();
    return {state_.global_step,    run_loss_ / static_cast<double>(std::max<std::int64_t>(1, run_labels_)),
            state_.best_eval_loss, state_.best_metric,
            state_.best_step,      stopped_early_ && state_.global_step < total_steps_};
  }

 private:
  void begin() {
    if (a_.output_dir.empty()) return;
    remove_unfinished(a_.output_dir);
    if (!resumed_) return;
    state_ = load_checkpoint(checkpoint_path(a_.output_dir, *resumed_), identity_, parameters_, optimizer_,
                             average_);
    saved_ = state_.global_step;
    stopped_early_ = has_lost_patience();
    too_many_ = true;  // a process that was killed had no time to remove them
    updates_in_epoch_ = updates_of_epoch(train_, a_, state_.epoch);
  }

  bool evaluation_is_due() const noexcept {
    const std::int64_t step = state_.global_step;
    if (evaluation_ == nullptr || step == state_.last_evaluation) return false;
    if (step == total_steps_) return true;
    return a_.eval_steps > 0 ? step % a_.eval_steps == 0 : state_.next_batch == 0;
  }

  bool has_lost_patience() const noexcept {
    return a_.early_stopping_patience > 0 && state_.evaluations_without_best >= a_.early_stopping_patience;
  }

  void train_epoch() {
    const Batches batches = batches_of_epoch(train_, a_, state_.epoch);
    const auto count = static_cast<std::int64_t>(batches.size());
    if (state_.next_batch >= count)
      fail<FormatError>(kWhere, "the checkpoint stands at batch ", state_.next_batch, " of an epoch of ",
                        count);
    updates_in_epoch_ = rounded_up(count, a_.gradient_accumulation_steps);
    do {
      const std::int64_t end = std::min(count, state_.next_batch + a_.gradient_accumulation_steps);
      update(std::span(batches).subspan(static_cast<std::size_t>(state_.next_batch),
                                        static_cast<std::size_t>(end - state_.next_batch)));
      state_.next_batch = end;
      if (state_.next_batch == count) {
        ++state_.epoch;
        state_.next_batch = 0;
      }
      after_update();
    } while (state_.next_batch != 0 && state_.global_step < total_steps_ && !stopped_early_);
  }

  /// One step of the optimizer on the mean loss over all labels of the batches.
  void update(std::span<const std::vector<std::int64_t>> planned) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<Batch> batches;
    std::int64_t labels = 0;
    for (const auto& indices : planned) labels += batches.emplace_back(train_, indices, objective_).labels;
    parameters_.zero_gradients();
    watch();
    parameters_.lend_gradients(*tape_);
    double loss = 0;
    std::int64_t tokens = 0;
    for (std::size_t i = 0; i < batches.size(); ++i) {
      arena_.reset();
      const ObjectiveOptions options{.tape = &*tape_,
                                     .scale = 1 / static_cast<double>(std::max<std::int64_t>(1, labels)),
                                     .dropout = dropout_of(static_cast<std::int64_t>(i)),
                                     .gradient_checkpointing = a_.gradient_checkpointing,
                                     .activations = a_.bf16 ? DType::bf16 : DType::f32,
                                     .stop = stop_};
      const LossSum sum = objective_.loss(model_.network(), batches[i].samples, arena_, options);
      loss_is_finite_ = std::isfinite(sum.sum);
      require_finite("loss", sum.sum);
      tape_->backward(stop_);
      loss += sum.sum;
      tokens += batches[i].tokens;
    }
    if (parameters_.adapter() != nullptr) parameters_.adapter()->add_penalty(parameters_.learned());
    objective_.add_penalty(parameters_);
    grad_norm_ = parameters_.gradient_norm();
    require_finite("gradient norm", grad_norm_);
    remove_old_checkpoints();
    learning_rate_ = a_.learning_rate * learning_rate_factor(schedule_, state_.global_step);
    const double clip = clip_factor(grad_norm_, a_.max_grad_norm);
    optimizer_.step(learning_rate_, clip, plan_.parts());
    ++state_.global_step;
    if (parameters_.adapter() != nullptr)
      parameters_.adapter()->after_update(parameters_.learned(), {state_.global_step, clip});
    average_.update(state_.global_step);
    state_.loss_sum += loss;
    state_.loss_labels += labels;
    run_loss_ += loss;
    run_labels_ += labels;
    tokens_ += tokens;
    last_loss_ = {loss, labels};
    last_pace_ = {tokens, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    pace_.tokens += last_pace_.tokens;
    pace_.seconds += last_pace_.seconds;
  }

  /// Lets the tape know of what the next update learns.
  void watch() {
    if (watched_ == plan_.awake(state_.global_step)) return;
    tape_.emplace();
    parameters_.watch(*tape_, [&](std::size_t i) { return plan_.learns(i, state_.global_step); });
    watched_ = plan_.awake(state_.global_step);
  }

  /// Random numbers for one batch of the next update: streams that nothing else takes from the seed.
  DropoutSeed dropout_of(std::int64_t batch) const noexcept {
    const std::int64_t number = 1 + state_.global_step * a_.gradient_accumulation_steps + batch;
    return {a_.seed, static_cast<std::uint64_t>(number) << 32};
  }

  void require_finite(std::string_view what, double value) {
    if (std::isfinite(value)) return;
    const auto parameter = non_finite();
    fail<NumericError>(
        kWhere, "the ", what, " after step ", state_.global_step, " is ", value,
        parameter ? concat("; parameter ", parameter->name, ": element ", parameter->element) : "",
        "; the model is as after that step");
  }

  void after_update() {
    const std::int64_t step = state_.global_step;
    if (callbacks_.on_step) callbacks_.on_step(record_of(last_loss_, last_pace_));
    if (step % a_.logging_steps == 0 || step == total_steps_) log();
    if (evaluation_is_due()) evaluate();
    if (!a_.output_dir.empty() && a_.save_steps > 0 && step % a_.save_steps == 0) save();
  }

  double epoch() const noexcept {
    const auto done = static_cast<double>(rounded_up(state_.next_batch, a_.gradient_accumulation_steps));
    return static_cast<double>(state_.epoch) +
           done / static_cast<double>(std::max<std::int64_t>(1, updates_in_epoch_));
  }

  TrainingLog record_of(const LossSum& loss, const Pace& pace) const noexcept {
    const double mean = loss.count > 0 ? loss.mean() : 0;
    return {state_.global_step, total_steps_,   epoch(), mean,
            grad_norm_,         learning_rate_, tokens_, pace.tokens_per_s()};
  }

  void log() {
    if (callbacks_.on_log) callbacks_.on_log(record_of({state_.loss_sum, state_.loss_labels}, pace_));
    state_.loss_sum = 0;
    state_.loss_labels = 0;
    pace_ = {};
  }

  void evaluate() {
    const bool best = evaluate_average();
    stopped_early_ = has_lost_patience();
    if (stopped_early_ && state_.loss_labels > 0) log();  // before it is saved that nothing is left to do
    if (best && a_.load_best_model_at_end) save();
  }

  /// Of the weights themselves where there is no average. Returns whether it is the best so far.
  bool evaluate_average() {
    const WeightAverage::InNetwork in_network(average_);
    EvaluationLog record = evaluate_objective(model_.network(), objective_, a_, *evaluation_, stop_);
    loss_is_finite_ = std::isfinite(record.eval_loss);
    require_finite("evaluation loss", record.eval_loss);
    record.step = state_.last_evaluation = state_.global_step;
    record.epoch = epoch();
    const double metric = judged(record, a_.metric_for_best_model);
    record.best = !state_.best_metric ||
                  (greater_is_better(a_) ? metric > *state_.best_metric : metric < *state_.best_metric);
    if (record.best) {
      state_.best_eval_loss = record.eval_loss;
      state_.best_metric = metric;
      state_.best_step = state_.global_step;
    }
    state_.evaluations_without_best = record.best ? 0 : state_.evaluations_without_best + 1;
    if (callbacks_.on_evaluate) callbacks_.on_evaluate(record);
    return record.best;
  }

  void save_if_finite() {
    if (a_.output_dir.empty() || saved_ == state_.global_step) return;
    if (!non_finite()) write_checkpoint();
  }

  std::optional<NonFiniteParameter> non_finite() {
    auto found = find_non_finite(model_.network());
    objective_.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
      if (!found) found = find_non_finite(name, tensor);
    });
    return found;
  }

  /// Throws NumericError for weights that are not finite: what was saved before is better.
  void save() {
    if (saved_ == state_.global_step) return;
    if (const auto parameter = non_finite())
      fail<NumericError>(kWhere, "parameter ", parameter->name, ": element ", parameter->element,
                         " after step ", state_.global_step, ", which is not saved");
    write_checkpoint();
  }

  void write_checkpoint() {
    save_checkpoint(a_.output_dir, state_, identity_, model_, objective_, parameters_, optimizer_, average_);
    saved_ = state_.global_step;
    if (callbacks_.on_save) callbacks_.on_save(checkpoint_path(a_.output_dir, saved_));
    too_many_ = true;
  }

  /// When what was saved last is known to be of use.
  void remove_old_checkpoints() {
    if (!a_.save_total_limit || !std::exchange(too_many_, false)) return;
    std::vector<std::int64_t> there = checkpoints_in(a_.output_dir);
    std::erase_if(there, [&](std::int64_t step) {
      return step == saved_ || (a_.load_best_model_at_end && step == state_.best_step);
    });
    const bool keeps_best = a_.load_best_model_at_end && state_.best_step > 0 && state_.best_step != saved_;
    const auto keep =
        static_cast<std::size_t>(std::max<std::int64_t>(0, *a_.save_total_limit - 1 - keeps_best));
    for (std::size_t i = 0; i + keep < there.size(); ++i) remove_checkpoint(a_.output_dir, there[i]);
  }

  Model& model_;
  const TrainingArguments& a_;
  Objective& objective_;
  const Dataset& train_;
  const Dataset* evaluation_;
  const TrainingCallbacks& callbacks_;
  std::stop_token stop_;
  std::optional<std::int64_t> resumed_;  // before anything of the model is touched
  std::int64_t total_steps_;
  Parameters parameters_;
  AdamW optimizer_;
  LearningPlan plan_;
  WeightAverage average_;
  HfConfig identity_;
  ScheduleOptions schedule_;
  std::optional<Tape> tape_;
  std::optional<std::int64_t> watched_;  // so many parameters of the plan
  Arena arena_;
  TrainingState state_;
  std::int64_t updates_in_epoch_ = 0, tokens_ = 0, saved_ = -1;
  double grad_norm_ = 0, learning_rate_ = 0, run_loss_ = 0;
  std::int64_t run_labels_ = 0;
  LossSum last_loss_;  // of the last update
  Pace last_pace_;
  Pace pace_;  // since the last record
  bool stopped_early_ = false;
  bool loss_is_finite_ = true;  // of the last batch or evaluation
  bool too_many_ = false;       // checkpoints, maybe
};

}  // namespace

std::int64_t total_steps(const Dataset& train, const TrainingArguments& a) {
  if (a.max_steps > 0) return a.max_steps;
  if (!a.max_tokens_per_batch)  // all epochs are alike
    return static_cast<std::int64_t>(
        std::ceil(a.num_train_epochs * static_cast<double>(updates_of_epoch(train, a, 0))));
  std::int64_t steps = 0, epoch = 0;
  double left = a.num_train_epochs;
  for (; left >= 1; --left) steps += updates_of_epoch(train, a, epoch++);
  if (left > 0)
    steps +=
        static_cast<std::int64_t>(std::ceil(left * static_cast<double>(updates_of_epoch(train, a, epoch))));
  return steps;
}

Trainer::Trainer(Model& model, TrainingArguments arguments, BatchLoss loss) try
    : model_(model), arguments_(std::move(arguments)) {
  arguments_.validate();
  if (loss) refuse_label_smoothing(arguments_);
  // Virtual tokens may predict the first ones; a loss of its own knows the rows by their tokens.
  const bool first_tokens = model.network().predicts_first_token() && !loss;
  objective_ = std::make_shared<LanguageModelObjective>(std::move(loss), arguments_.label_smoothing_factor,
                                                        first_tokens);
  prepare();
} catch (...) {
  rethrow_with_memory_errors(kWhere);
}

Trainer::Trainer(Model& model, TrainingArguments arguments, std::shared_ptr<Objective> objective) try
    : model_(model), arguments_(std::move(arguments)), objective_(std::move(objective)) {
  arguments_.validate();
  if (objective_ == nullptr) fail<ArgumentError>(kWhere, "there is no objective");
  refuse_label_smoothing(arguments_);
  prepare();
} catch (...) {
  rethrow_with_memory_errors(kWhere);
}

void Trainer::prepare() {
  const Gpt2Config& c = model_.config();
  for (const auto& [name, rate] :
       {std::pair("resid_pdrop", c.resid_pdrop), {"embd_pdrop", c.embd_pdrop}, {"attn_pdrop", c.attn_pdrop}})
    if (rate >= 1) fail<ArgumentError>(kWhere, name, " is ", rate, ", expected less than 1");
  if (arguments_.lora) {
    if (model_.network().adapter() != nullptr)
      fail<ArgumentError>(kWhere, "lora is set, but the model has an adapter, which is what is trained");
    model_.network().attach(
        std::make_shared<LoraAdapter>(model_.network(), *arguments_.lora, arguments_.seed));
    arguments_.lora.reset();  // from now on it is the model's
  }
  if (model_.network().adapter() != nullptr) {
    refuse_unfreezing(arguments_);
    return;  // the network itself is only read
  }
  make_plain(model_.network(), kWhere, arguments_.learns);
}

TrainingResult Trainer::fit(const Dataset& train, const Dataset* evaluation,
                            const TrainingCallbacks& callbacks, std::stop_token stop) {
  if (evaluation == nullptr && (arguments_.load_best_model_at_end || arguments_.early_stopping_patience > 0 ||
                                arguments_.eval_steps > 0))
    fail<ArgumentError>(
        kWhere, "load_best_model_at_end, early_stopping_patience and eval_steps need evaluation data");
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kWhere, [&] {
    std::optional<DirectoryLock> lock = lock_;
    if (!lock && !arguments_.output_dir.empty()) lock.emplace(arguments_.output_dir);
    return Run(model_, arguments_, *objective_, train, evaluation, callbacks, std::move(stop))();
  });
}

EvaluationLog Trainer::evaluate(const Dataset& data, std::stop_token stop) const {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(
      kWhere, [&] { return evaluate_objective(model_.network(), *objective_, arguments_, data, stop); });
}

}  // namespace gpt
