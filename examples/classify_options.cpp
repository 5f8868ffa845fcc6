#include "classify_options.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

namespace classify {

const char* const kTrainFooter = R"(Examples:
  gpt-classify train --model gpt2 --train-file train.csv --validation-file dev.csv --output-dir sentiment
  gpt-classify train --model gpt2 --train-file all.tsv --text-column review --label-column stars --output-dir stars

Files are CSV or TSV with a header, or JSON lines. Without --validation-file a part of the rows of --train-file is kept for it. After every
epoch the validation rows are classified; the best of these classifiers is kept. OUTPUT_DIR gets it as transformers reads it
(GPT2ForSequenceClassification), of --method lora, ia3 and bitfit also its adapter, in adapter/; the scores beside those of logistic regression on words, in
report.html and report.json; and metrics.jsonl. When interrupted, it gets a checkpoint from which --resume goes on to the same bits, and
what is said of the parts of --folds that were done.)";

namespace {

constexpr Method kMethods[] = {
    {"full", 5e-4}, {"lora", 2e-3}, {"ia3", 1e-2}, {"bitfit", 5e-3}, {"head", 1e-2}};
constexpr std::string_view kDefaultMethod = "full";

/// What tells the best classifier, which is to be known before the first has been trained.
std::string metric_of(const TrainRequest& r) {
  const gpt::ProblemType type = problem_type_of(r);
  if (!r.metric) return type == gpt::ProblemType::kSingleLabel ? "macro_f1" : "loss";
  const std::vector<std::string> known =
      type == gpt::ProblemType::kRegression
          ? std::vector<std::string>{"loss", "mean_squared_error", "mean_absolute_error"}
          : std::vector<std::string>{"loss", "macro_f1", "accuracy"};
  if (std::ranges::find(known, *r.metric) == known.end())
    throw program::UsageError(gpt::concat("--metric-for-best-model: ", program::in_quotes(*r.metric),
                                          " is none of ", known[0], ", ", known[1], ", ", known[2]));
  return *r.metric;
}

/// Nothing where another method is asked for.
std::optional<gpt::LoraConfig> lora_of(const TrainRequest& r) {
  const bool is_lora = method_of(r).name == "lora";
  for (const auto& [option, given] : {std::pair("--lora-r", r.lora_r.has_value()),
                                      {"--lora-alpha", r.lora_alpha.has_value()},
                                      {"--lora-dropout", r.lora_dropout.has_value()}})
    if (given && !is_lora) throw program::UsageError(gpt::concat(option, " is for --method lora"));
  if (!is_lora) return std::nullopt;
  gpt::LoraConfig config;
  config.r = r.lora_r.value_or(config.r);
  config.lora_alpha = r.lora_alpha.value_or(config.lora_alpha);
  config.lora_dropout = r.lora_dropout.value_or(config.lora_dropout);
  return config;
}

}  // namespace

const Method& method_of(const TrainRequest& r) {
  const std::string_view name = r.method.empty() ? kDefaultMethod : std::string_view(r.method);
  for (const Method& method : kMethods)
    if (method.name == name) return method;
  throw program::UsageError("--method: " + program::in_quotes(name) +
                            " is none of full, lora, ia3, bitfit, head");
}

gpt::ProblemType problem_type_of(const TrainRequest& r) {
  const auto type = gpt::problem_type_from_name(r.problem_type);
  if (!type)
    throw program::UsageError(
        "--problem-type: " + program::in_quotes(r.problem_type) +
        " is none of single_label_classification, multi_label_classification, regression");
  return *type;
}

std::filesystem::path run_directory(const TrainRequest& r) {
  return std::filesystem::path(r.output_dir) / "run";
}

void prepare(TrainRequest& r) {
  const Method& method = method_of(r);
  gpt::TrainingArguments& a = r.arguments;
  const bool single = problem_type_of(r) == gpt::ProblemType::kSingleLabel;
  const auto needs_one_label = [&](const char* option, bool given) {
    if (given && !single)
      throw program::UsageError(gpt::concat(
          option, " is for single_label_classification, not for --problem-type ", r.problem_type));
  };
  check_columns(r);
  if (r.validation_file && r.validation_fraction)
    throw program::UsageError("--validation-file and --validation-fraction are both given: expected one");
  if (const auto& f = r.validation_fraction; f && !(*f > 0 && *f < 1))
    throw program::UsageError(
        gpt::concat("--validation-fraction is ", *f, ", expected more than 0 and less than 1"));
  needs_one_label("--class-weights balanced", r.balanced);
  needs_one_label(r.words_flag.value_or(true) ? "--words" : "--no-words", r.words_flag.has_value());
  needs_one_label(r.calibrate_flag.value_or(true) ? "--calibrate" : "--no-calibrate",
                  r.calibrate_flag.has_value());
  needs_one_label("--folds", r.folds > 0);
  needs_one_label("--label-smoothing-factor", r.label_smoothing_factor != 0);
  needs_one_label("--contrastive-weight", r.robust.contrastive_weight.has_value());
  if (r.words_flag.value_or(false) && !r.calibrate_flag.value_or(true))
    throw program::UsageError("--words is not for --no-calibrate, which leaves them out, too");
  if (r.folds == 1) throw program::UsageError("--folds is 1, expected 0 or 2 and more");
  program::check_usage([&] { gpt::ops::CrossEntropy{r.label_smoothing_factor}; });
  a.learning_rate = r.learning_rate.value_or(method.learning_rate);
  a.lora = lora_of(r);
  if (method.name == "head") a.learns = [](std::string_view) { return false; };
  a.metric_for_best_model = metric_of(r);
  a.output_dir = run_directory(r);
  a.load_best_model_at_end = true;
  a.save_steps = 0;
  a.save_total_limit = 1;
  a.num_train_epochs = r.num_train_epochs.value_or(kDefaultEpochs);
  check(r);
  program::check_robust(r.robust);
  const bool unfreezes = a.unfreeze_steps > 0 || a.unfreeze_epochs > 0;
  if (unfreezes && method.name != "full")
    throw program::UsageError(gpt::concat(a.unfreeze_steps > 0 ? "--unfreeze-steps" : "--unfreeze-epochs",
                                          " is for --method full"));
  if (a.layerwise_lr_decay != 1 && method.name == "head")
    throw program::UsageError("--layerwise-lr-decay is not for --method head");
  program::check_usage([&] { a.validate(); });
}

void add_options(program::App& app, TrainRequest& r) {
  gpt::TrainingArguments& a = r.arguments;
  a.per_device_train_batch_size = 16;
  a.per_device_eval_batch_size = 32;
  a.warmup_ratio = 0.1;
  a.weight_decay = 0.01;
  a.logging_steps = 20;
  a.early_stopping_patience = 5;
  app.add_text("--model", r.model, "DIR", "Directory of a Hugging Face GPT-2 checkpoint").required();
  app.add_text("--train-file", r.train_file, "FILE", "Rows to learn from").required();
  app.add_text("--validation-file", r.validation_file, "FILE", "Rows that tell which classifier is the best");
  app.add_number("--validation-fraction", r.validation_fraction, "Or the part of --train-file for it (0.1)");
  app.add_text("--output-dir", r.output_dir, "DIR", "Where the result goes").required();
  add_column_options(app, r);
  app.add_text("--problem-type", r.problem_type, "NAME",
               "single_label_classification, multi_label_classification or regression (the first)");
  app.add_text(
      "--method", r.method, "NAME",
      "What learns beside the head: full (all), lora, ia3, bitfit (biases) or head (nothing) (full)");
  app.add_number("--lora-r", r.lora_r, "Rank of --method lora (8)", 1).sets("[lora] r");
  app.add_number("--lora-alpha", r.lora_alpha, "What its product is scaled by, over the rank (8)");
  app.add_number("--lora-dropout", r.lora_dropout, "Dropout rate of its inputs (0)");
  app.add_number("--max-length", r.max_length, "Tokens of a text at most (128, or what the network takes)",
                 1);
  app.add_number("--learning-rate", r.learning_rate,
                 "At its height (full 5e-4, lora 2e-3, ia3 1e-2, bitfit 5e-3, head 1e-2)");
  app.add_number("--num-train-epochs", r.num_train_epochs,
                 "How often all is learned (4; up to 15 for 500 updates, less for over 2.5 million tokens)");
  app.add_number("--max-steps", a.max_steps, "Updates, whatever the epochs (-1)", -1);
  app.add_number("--per-device-train-batch-size", a.per_device_train_batch_size, "Texts of an update (16)",
                 1);
  app.add_number("--warmup-ratio", a.warmup_ratio, "Part of all updates in which the rate rises (0.1)");
  app.add_number("--weight-decay", a.weight_decay, "Of matrices (0.01)");
  app.add_number("--label-smoothing-factor", r.label_smoothing_factor, "Of the loss, 0 to 1 (0)");
  app.add_number("--ema-decay", a.ema_decay,
                 "Evaluate and keep a moving average of the weights, which keeps so much a step (0)");
  program::add_layer_options(app, a);
  program::add_robust_options(app, r.robust);
  program::add_contrastive_options(app, r.robust);
  add_options(app, r.more);
  app.add_text_function(
      "--class-weights",
      [&r](const std::string& name) {
        if (name != "balanced" && name != "none")
          throw program::UsageError("--class-weights: " + program::in_quotes(name) +
                                    " is none of none, balanced");
        r.balanced = name == "balanced";
      },
      "NAME", "none, or balanced: rare classes count as much as frequent ones (none)");
  app.add_text("--metric-for-best-model", r.metric, "NAME",
               "macro_f1, accuracy or loss (macro_f1; of several labels and numbers loss)");
  app.add_number("--early-stopping-patience", a.early_stopping_patience,
                 "Evaluations without a better one before the end, 0 = never (5)", 0);
  app.add_number("--eval-steps", a.eval_steps, "Updates between two evaluations, 0 = once an epoch (0)", 0);
  app.add_number("--folds", r.folds,
                 "Cross-validate on so many parts of --train-file first, 2 or more; 0 = not (0)", 0);
  app.add_flag(
      "--calibrate,!--no-calibrate", r.calibrate_flag,
      "Fit the temperature of the probabilities to the validation rows (yes); if not, there are no words");
  app.add_flag("--words,!--no-words", r.words_flag,
               "Answer together with logistic regression on words, weighed on the validation rows (yes)");
  app.add_number("--logging-steps", a.logging_steps, "Updates between two records (20)", 1);
  app.add_number("--seed", a.seed, "Of the head, the order of rows, and what is kept for validation (42)");
  app.add_flag("--resume", a.resume_from_checkpoint, "Go on from the last checkpoint of OUTPUT_DIR");
  add_common_options(app, r);
  add_json_option(app, r);
}

}  // namespace classify
