#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <utility>

#include <gpt/gpt.h>

#include "classification.h"
#include "classify.h"
#include "training_records.h"

namespace classify {

const char* const kTrainFooter = R"(Examples:
  gpt-classify train --model gpt2 --train-file train.csv --validation-file dev.csv --output-dir sentiment
  gpt-classify train --model gpt2 --train-file all.tsv --text-column review --label-column stars --output-dir stars

Files are CSV or TSV with a header, or JSON lines. Without --validation-file a part of the rows of --train-file is kept for it. After every
epoch the validation rows are classified; the best of these classifiers is kept. OUTPUT_DIR gets it as transformers reads it
(GPT2ForSequenceClassification), of --method lora, ia3 and bitfit also its adapter, in adapter/; the scores beside those of logistic regression on words, in
report.html and report.json; and metrics.jsonl. When interrupted, it gets a checkpoint from which --resume goes on to the same bits.)";

namespace {

namespace fs = std::filesystem;
using program::Json;
using Clock = std::chrono::steady_clock;

/// What a method learns, and how fast.
struct Method {
  std::string_view name;
  double learning_rate;
};
constexpr Method kMethods[] = {
    {"full", 5e-4}, {"lora", 2e-3}, {"ia3", 1e-2}, {"bitfit", 5e-3}, {"head", 1e-2}};
constexpr std::string_view kDefaultMethod = "full";
constexpr std::int64_t kDefaultMaxLength = 128;
// Few rows are learned more often: so many updates are needed for anything to be learned. Many long ones are learned less often: what
// takes the embedded model ten minutes on two CPUs.
constexpr double kDefaultEpochs = 4, kMostDefaultEpochs = 15, kFewestUpdates = 500, kMostTokens = 2.5e6;

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

fs::path run_directory(const TrainRequest& r) { return fs::path(r.output_dir) / "run"; }

/// Checks what needs no file, and completes the arguments.
void prepare(TrainRequest& r) {
  const Method& method = method_of(r);
  gpt::TrainingArguments& a = r.arguments;
  const bool single = problem_type_of(r) == gpt::ProblemType::kSingleLabel;
  if (r.validation_file && r.validation_fraction)
    throw program::UsageError("--validation-file and --validation-fraction are both given: expected one");
  if (const auto& f = r.validation_fraction; f && !(*f > 0 && *f < 1))
    throw program::UsageError(
        gpt::concat("--validation-fraction is ", *f, ", expected more than 0 and less than 1"));
  if (!single && r.balanced)
    throw program::UsageError("--class-weights balanced is for single_label_classification");
  if (r.words_flag.value_or(false) && !(single && r.calibrate_flag.value_or(true)))
    throw program::UsageError("--words is for single_label_classification, and not for --no-calibrate");
  if (!single && r.calibrate_flag.value_or(false))
    throw program::UsageError("--calibrate is for single_label_classification");
  if (!single && r.folds > 0) throw program::UsageError("--folds is for single_label_classification");
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
  if (!single && r.robust.contrastive_weight)
    throw program::UsageError("--contrastive-weight is for single_label_classification");
  const bool unfreezes = a.unfreeze_steps > 0 || a.unfreeze_epochs > 0;
  if (unfreezes && method.name != "full")
    throw program::UsageError(gpt::concat(a.unfreeze_steps > 0 ? "--unfreeze-steps" : "--unfreeze-epochs",
                                          " is for --method full"));
  if (a.layerwise_lr_decay != 1 && method.name == "head")
    throw program::UsageError("--layerwise-lr-decay is not for --method head");
  program::check_usage([&] { a.validate(); });
}

/// The epochs, where they were not given: by how many updates each has.
void choose_epochs(TrainRequest& r, const gpt::ClassificationDataset& train) {
  if (r.num_train_epochs) return;
  const auto batch = static_cast<double>(*r.arguments.per_device_train_batch_size);
  const double updates = std::ceil(static_cast<double>(train.size()) / batch);
  double tokens = 0;
  for (std::int64_t i = 0; i < train.size(); ++i) tokens += static_cast<double>(train.length(i));
  r.arguments.num_train_epochs =
      std::min(std::clamp(std::ceil(kFewestUpdates / updates), kDefaultEpochs, kMostDefaultEpochs),
               std::max(1.0, std::floor(kMostTokens / tokens)));
}

/// The result would take the place of a model that this run has not made.
void require_own_directory(const TrainRequest& r) {
  std::error_code error;
  if (fs::exists(fs::path(r.output_dir) / "model.safetensors", error) && !fs::exists(run_directory(r), error))
    gpt::fail<gpt::ArgumentError>(r.output_dir,
                                  "holds a model, and no run to resume: choose another --output-dir");
  // All of it is removed in the end.
  for (const fs::directory_entry& entry : fs::directory_iterator(run_directory(r), error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("checkpoint-") && !name.starts_with("round-") && !name.starts_with(".checkpoint-"))
      gpt::fail<gpt::ArgumentError>(run_directory(r).string(), "holds ", name,
                                    ", which no run has made: choose another --output-dir");
  }
}

std::string file_name(const std::string& path) {
  const fs::path p = path;
  return (p.filename().empty() ? p.parent_path() : p).filename().string();
}

std::string majority_label(const std::vector<gpt::LabelledRow>& rows,
                           const std::vector<std::string>& labels) {
  std::vector<std::int64_t> counts(labels.size());
  for (const gpt::LabelledRow& row : rows)
    for (const std::string& label : row.labels)
      ++counts[static_cast<std::size_t>(std::ranges::find(labels, label) - labels.begin())];
  return labels[static_cast<std::size_t>(std::ranges::max_element(counts) - counts.begin())];
}

gpt::BagOfWords train_baseline(const gpt::LabelledRows& rows, const gpt::ClassificationDataset& data,
                               std::int64_t classes, std::stop_token stop) {
  std::vector<std::string_view> texts;
  for (const std::int64_t row : data.rows()) texts.push_back(rows.rows[static_cast<std::size_t>(row)].text);
  return gpt::BagOfWords::train(texts, data.classes(), classes, {.stop = stop});
}

gpt::Classifier make_classifier(const TrainRequest& r, const std::vector<gpt::LabelledRow>& rows,
                                std::stop_token stop) {
  gpt::Model model = gpt::Model::load(r.model, {.on_warning = program::warn, .stop = stop});
  const gpt::ProblemType type = problem_type_of(r);
  std::vector<std::string> labels = gpt::labels_of(rows);
  if (type == gpt::ProblemType::kRegression) {
    labels.clear();
    const auto first =
        std::ranges::find_if(rows, [](const gpt::LabelledRow& row) { return !row.labels.empty(); });
    for (std::size_t i = 0; first != rows.end() && i < first->labels.size(); ++i)
      labels.push_back(gpt::concat("LABEL_", i));
  }
  constexpr std::size_t kMany = 1000;
  if (labels.size() > kMany)
    gpt::fail<gpt::FormatError>(r.train_file, "has ", labels.size(), " different labels, expected at most ",
                                kMany, "; is ", *r.rows.label_column, " the column of the labels?");
  if (labels.empty())
    gpt::fail<gpt::FormatError>(r.train_file, "no row has a label in column ", *r.rows.label_column);
  if (type == gpt::ProblemType::kSingleLabel && labels.size() < 2)
    gpt::fail<gpt::FormatError>(r.train_file, "all rows have the label ", labels.front(),
                                ", expected two or more different ones");
  // What the trainer finds attached is what it trains; it attaches LoRA itself.
  if (method_of(r).name == "ia3") {
    model.network().attach(std::make_shared<gpt::Ia3Adapter>(
        model.network(), gpt::Ia3Config{.base_model_name_or_path = r.model}));
  } else if (method_of(r).name == "bitfit") {
    model.network().attach(std::make_shared<gpt::BitFitAdapter>(
        model.network(), gpt::BitFitConfig{.base_model_name_or_path = r.model}));
  }
  return {std::move(model), std::move(labels), type, r.arguments.seed};
}

std::shared_ptr<gpt::Objective> make_objective(const TrainRequest& r, gpt::Classifier& classifier,
                                               const gpt::ClassificationDataset& train) {
  gpt::ClassificationOptions options{.label_smoothing_factor = r.label_smoothing_factor};
  if (r.balanced) {
    std::vector<std::int64_t> counts(classifier.labels().size());
    for (const std::int32_t c : train.classes()) ++counts[static_cast<std::size_t>(c)];
    options.class_weights = gpt::balanced_weights(counts);
  }
  return program::make_robust(r.robust,
                              std::make_shared<gpt::ClassificationObjective>(classifier, std::move(options)));
}

/// Texts that the classifier is sure of, with its labels.
std::vector<gpt::LabelledRow> sure_rows(const TrainRequest& r, const gpt::Classifier& classifier,
                                        const std::vector<gpt::LabelledRow>& unlabelled,
                                        std::stop_token stop) {
  std::vector<gpt::LabelledRow> sure =
      gpt::pseudo_labelled(classifier, unlabelled,
                           {.threshold = r.more.pseudo_label_threshold.value_or(0.9),
                            .max_length = r.max_length,
                            .stop = std::move(stop)});
  std::cerr << sure.size() << " of " << unlabelled.size()
            << " texts without labels are learned with those of the classifier\n";
  return sure;
}

/// Where a round of training keeps its checkpoints; the last has the directory itself.
fs::path round_directory(const TrainRequest& r, std::int64_t round) {
  return round == r.more.rounds() ? run_directory(r) : run_directory(r) / gpt::concat("round-", round);
}

/// What the rounds of one command have in common.
struct Rounds {
  const TrainRequest& request;
  const Data& rows;
  const gpt::ClassificationDataset& train_data;  // of rows.train
  const gpt::ClassificationDataset& validation;
  std::stop_token stop;
  std::vector<gpt::LabelledRow> made =
      {};  // what the next round learns from instead of rows.train; empty: that

  /// Rows of the next round, with those that a classifier is sure of.
  void add(const std::vector<gpt::LabelledRow>& sure) {
    made = rows.augmented.empty() ? rows.train.rows : rows.augmented;
    made.insert(made.end(), sure.begin(), sure.end());
  }

  /// Trains a classifier from the beginning.
  gpt::TrainingResult train(gpt::Classifier& classifier, std::int64_t round,
                            const gpt::TrainingCallbacks& callbacks) const {
    std::optional<gpt::ClassificationDataset> own;
    if (!made.empty()) {
      gpt::LabelledRows all;
      all.rows = made;
      own = program::make_dataset(classifier, all, request.train_file, request.max_length, request.strict);
    }
    const gpt::ClassificationDataset& data = own ? *own : train_data;
    gpt::TrainingArguments arguments = request.arguments;
    arguments.output_dir = round_directory(request, round);
    gpt::Trainer trainer(classifier.model(), arguments, make_objective(request, classifier, data));
    if (!request.more.replay_file) return trainer.fit(data, &validation, callbacks, stop);
    const auto old = program::make_dataset(classifier, rows.replay, *request.more.replay_file,
                                           request.max_length, request.strict);
    const gpt::ReplayDataset mixed(data, old, request.more.replay_fraction.value_or(0.25), arguments.seed);
    return trainer.fit(mixed, &validation, callbacks, stop);
  }
};

/// Writes the result, of an adapter as a whole and for itself. The classifier then has it merged.
void save_result(gpt::Classifier& classifier, const fs::path& directory) {
  gpt::Gpt2& network = classifier.model().network();
  if (const std::shared_ptr<const gpt::nn::Adapter> adapter = network.adapter()) {
    classifier.save(directory / "adapter");
    network.attach(nullptr);
    gpt::merge_adapter(*adapter, network);
  }
  classifier.save(directory);
}

/// How it went, on one page and as JSON.
void write_reports(const TrainRequest& r, const gpt::Classifier& classifier,
                   const program::Judgement* judgement, gpt::TrainingHistory history,
                   const std::vector<gpt::TrainingReport::Fact>& data, const std::string& status,
                   const Json& object) {
  gpt::TrainingReport page{.title = gpt::concat(file_name(r.model), " on ", file_name(r.train_file)),
                           .status = status};
  if (judgement != nullptr) {
    page.highlights = program::highlights_of(*judgement);
    page.scores = program::to_grids(*judgement, classifier.labels());
  }
  page.history = std::move(history);
  page.tables.push_back({"Data", data});
  page.tables.push_back(table_of(classifier.model().config()));
  page.tables.push_back(table_of(r.arguments));
  const fs::path directory = r.output_dir;
  gpt::write_file_atomically(directory / "report.html", to_html(page));
  gpt::write_file_atomically(directory / "report.json", object.dump(2) + "\n");
}

/// Trains on all folds but one and judges that, for each of them.
Json cross_validate(const TrainRequest& r, const gpt::LabelledRows& rows, std::stop_token stop) {
  const gpt::Classifier shape = make_classifier(r, rows.rows, stop);
  const auto all = program::make_dataset(shape, rows, r.train_file, r.max_length, r.strict);
  const std::vector<std::int32_t> classes = all.classes();
  const auto folds = gpt::stratified_folds(classes, r.folds, r.arguments.seed);
  Json list = Json::array();
  std::vector<double> accuracies, f1s;
  for (std::size_t k = 0; k < folds.size(); ++k) {
    std::vector<std::int64_t> others;
    for (std::int64_t i = 0; i < all.size(); ++i)
      if (!std::ranges::binary_search(folds[k], i)) others.push_back(i);
    const gpt::ClassificationDataset train = all.subset(others), held = all.subset(folds[k]);
    gpt::Classifier classifier = make_classifier(r, rows.rows, stop);
    gpt::TrainingArguments a = r.arguments;  // the held fold chooses nothing: the last weights are judged
    a.output_dir.clear();
    a.load_best_model_at_end = false;
    a.early_stopping_patience = 0;
    a.resume_from_checkpoint = false;
    program::Progress progress;
    gpt::Trainer trainer(classifier.model(), a, make_objective(r, classifier, train));
    trainer.fit(train, nullptr,
                {.on_log = [&](const gpt::TrainingLog& log) { progress.on_log(log); },
                 .on_step = [&](const gpt::TrainingLog& log) { progress.on_step(log); }},
                stop);
    const program::Judgement judgement =
        program::judge(classifier, program::logits_of(classifier, held, stop), {}, held, {});
    accuracies.push_back(judgement.scores.accuracy);
    f1s.push_back(judgement.scores.macro.f1);
    list.push_back({{"accuracy", accuracies.back()}, {"macro_f1", f1s.back()}, {"count", held.size()}});
    std::cerr << "fold " << k + 1 << " of " << folds.size() << ": accuracy "
              << program::fixed_text(accuracies.back(), 4) << ", macro_f1 "
              << program::fixed_text(f1s.back(), 4) << '\n';
  }
  const auto summary = [](const std::vector<double>& values) {
    double mean = 0, squares = 0;
    for (const double v : values) mean += v / static_cast<double>(values.size());
    for (const double v : values) squares += (v - mean) * (v - mean);
    return Json{{"mean", mean}, {"std", std::sqrt(squares / static_cast<double>(values.size()))}};
  };
  return {{"folds", std::move(list)}, {"accuracy", summary(accuracies)}, {"macro_f1", summary(f1s)}};
}

}  // namespace

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
  app.add_number("--lora-r", r.lora_r, "Rank of --method lora (8)", 1);
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
  app.add_number("--folds", r.folds, "Cross-validate on so many parts of --train-file first, 0 = not (0)", 0);
  app.add_flag("--calibrate,!--no-calibrate", r.calibrate_flag,
               "Fit the temperature of the probabilities to the validation rows (yes)");
  app.add_flag("--words,!--no-words", r.words_flag,
               "Answer together with logistic regression on words, weighed on the validation rows (yes)");
  app.add_number("--logging-steps", a.logging_steps, "Updates between two records (20)", 1);
  app.add_number("--seed", a.seed, "Of the head, the order of rows, and what is kept for validation (42)");
  app.add_flag("--resume", a.resume_from_checkpoint, "Go on from the last checkpoint of OUTPUT_DIR");
  add_common_options(app, r);
  add_json_option(app, r);
}

int run(TrainRequest& r) {
  prepare(r);
  require_own_directory(r);
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  const std::stop_token stop = interrupt.token();
  const auto start = Clock::now();
  gpt::RowOptions row_options = r.rows;
  row_options.skip_bad_rows = !r.strict;
  row_options.stop = stop;
  const Data rows = read_data(r, row_options);
  std::vector<gpt::LabelledRow> labelled = rows.train.rows;
  labelled.insert(labelled.end(), rows.replay.rows.begin(), rows.replay.rows.end());
  gpt::Classifier classifier = make_classifier(r, labelled, stop);
  if (r.max_length == 0) r.max_length = std::min(kDefaultMaxLength, classifier.model().config().n_positions);
  const gpt::ClassificationDataset train =
      program::make_dataset(classifier, rows.train, r.train_file, r.max_length, r.strict);
  const gpt::ClassificationDataset validation = program::make_dataset(
      classifier, rows.validation, r.validation_file.value_or(r.train_file), r.max_length, r.strict);
  const bool single = classifier.problem_type() == gpt::ProblemType::kSingleLabel;

  choose_epochs(r, train);
  Json object = Json::object();
  if (r.folds > 0) {
    gpt::LabelledRows all = rows.train;
    if (!r.validation_file)
      all.rows.insert(all.rows.end(), rows.validation.rows.begin(), rows.validation.rows.end());
    object["cross_validation"] = cross_validate(r, all, stop);
  }
  std::cerr << train.size() << " texts to learn from, " << validation.size() << " to validate on, "
            << classifier.num_labels() << " labels\n";
  r.arguments.initial_model = gpt::concat(classifier.model().network().fingerprint(stop));
  const fs::path directory = r.output_dir;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) gpt::fail<gpt::IoError>(r.output_dir, "cannot be made: ", error.message());
  Rounds rounds{r, rows, train, validation, stop, rows.augmented};
  const auto interrupted = [&] {
    std::cerr << "interrupted: --resume goes on from what " << run_directory(r).string() << " holds\n";
    return program::kInterrupted;
  };
  for (std::int64_t round = 0; round < r.more.rounds(); ++round) {
    program::Progress progress;
    try {
      rounds.train(classifier, round,
                   {.on_log = [&](const gpt::TrainingLog& log) { progress.on_log(log); },
                    .on_step = [&](const gpt::TrainingLog& log) { progress.on_step(log); },
                    .on_evaluate = [&](const gpt::EvaluationLog& log) { progress.on_evaluate(log); }});
    } catch (const gpt::CancelledError&) {
      return interrupted();
    }
    rounds.add(sure_rows(r, classifier, rows.unlabelled, stop));
    classifier = make_classifier(r, labelled, stop);
  }
  program::TrainingRecords records(directory / "metrics.jsonl", std::nullopt,
                                   r.arguments.resume_from_checkpoint);
  gpt::TrainingResult result;
  try {
    result = rounds.train(classifier, r.more.rounds(), records.callbacks());
  } catch (const gpt::CancelledError&) {
    records.end_progress();
    return interrupted();
  }
  records.end_progress();
  save_result(classifier, directory);

  program::ClassifierSettings settings{.max_length = r.max_length};
  std::optional<program::Judgement> judgement;
  if (single) {
    const gpt::Tensor logits = program::logits_of(classifier, validation, stop);
    settings.majority_label = majority_label(rows.train.rows, classifier.labels());
    const std::optional<gpt::BagOfWords> words =
        train_baseline(rows.train, train, classifier.num_labels(), stop);
    program::save_baseline(*words, directory);
    const std::vector<double> of_words = program::word_probabilities(words, validation, rows.validation);
    if (r.calibrate_flag.value_or(true) && r.words_flag.value_or(true))
      settings.blend = gpt::fit_blend(logits, of_words, validation.classes());
    else if (r.calibrate_flag.value_or(true))
      settings.blend.temperature = gpt::fit_temperature(logits, validation.classes());
    judgement = program::judge(classifier, logits, of_words, validation, settings.blend);
    program::add_baselines(*judgement, classifier, logits, of_words, validation, settings);
    object.update(program::to_json(*judgement, classifier.labels()));
    object["temperature"] = settings.blend.temperature;
    object["words_weight"] = settings.blend.weight;
  } else {
    const gpt::EvaluationLog log =
        gpt::Trainer(classifier.model(), {}, std::make_shared<gpt::ClassificationObjective>(classifier))
            .evaluate(validation, stop);
    object["loss"] = log.eval_loss;
    for (const auto& [name, value] : log.metrics) object[name] = value;
  }
  settings.save(directory);
  object["global_step"] = result.global_step;
  object["best_step"] = result.best_step;
  object["stopped_early"] = result.stopped_early;
  object["train_s"] = std::chrono::duration<double>(Clock::now() - start).count();
  const std::string status =
      gpt::concat(result.stopped_early ? "Stopped early" : "Finished", " after ", result.global_step,
                  " updates; the best is of update ", result.best_step, ".");
  std::vector<gpt::TrainingReport::Fact> facts = {
      {"training texts", gpt::concat(train.size())},
      {"of them cut", gpt::concat(train.truncated())},
      {"rows left out", gpt::concat(rows.train.bad + train.bad())},
      {"validation texts", gpt::concat(validation.size())},
      {"rows left out of validation", gpt::concat(rows.validation.bad + validation.bad())},
      {"rows learned from, with those made",
       gpt::concat(rounds.made.empty() ? rows.train.rows.size() : rounds.made.size())},
      {"method", std::string(method_of(r).name)},
      {"max_length", gpt::concat(r.max_length)},
      {"temperature", program::fixed_text(settings.blend.temperature, 4)},
      {"weight of the words", program::fixed_text(settings.blend.weight, 4)}};
  write_reports(r, classifier, judgement ? &*judgement : nullptr, records.history(), facts, status, object);
  fs::remove_all(run_directory(r), error);
  if (r.json) {
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  } else if (judgement) {
    std::cerr << status << '\n' << program::to_text(*judgement, classifier.labels());
  } else {
    std::cerr << status << '\n' << object.dump(2) << '\n';
  }
  return program::kDone;
}

}  // namespace classify
