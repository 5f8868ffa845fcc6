#include "classify_training.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gpt/gpt.h>

#include "classify_options.h"
#include "progress.h"

namespace classify {
namespace {

namespace fs = std::filesystem;

// Few rows are learned more often: so many updates are needed for anything to be learned. Many long ones are learned less often: what
// takes the embedded model ten minutes on two CPUs.
constexpr double kMostDefaultEpochs = 15, kFewestUpdates = 500, kMostTokens = 2.5e6;

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

/// One training, from the beginning to the best of its classifiers.
gpt::TrainingResult fit(const Lesson& lesson, gpt::Classifier& classifier,
                        const gpt::ClassificationDataset& train, const fs::path& directory,
                        const gpt::TrainingCallbacks& callbacks) {
  const TrainRequest& r = lesson.request;
  gpt::TrainingArguments arguments = r.arguments;
  arguments.output_dir = directory;
  gpt::Trainer trainer(classifier.model(), arguments, make_objective(r, classifier, train));
  if (!r.more.replay_file) return trainer.fit(train, &lesson.validation, callbacks, lesson.stop);
  const auto old =
      program::make_dataset(classifier, lesson.rows.replay, *r.more.replay_file, r.max_length, r.strict);
  const gpt::ReplayDataset mixed(train, old, r.more.replay_fraction.value_or(0.25), arguments.seed);
  return trainer.fit(mixed, &lesson.validation, callbacks, lesson.stop);
}

/// Refuses before it is trained what would fail at its end: nothing can be merged into a quantized matrix. The methods that are left learn
/// no matrix of the network.
void require_plain_matrices(const TrainRequest& r, gpt::Gpt2& network) {
  const std::string_view method = method_of(r).name;
  if (method == "head" || method == "bitfit") return;
  network.visit_matrices([&](const std::string& name, const gpt::ops::Weight& weight) {
    const bool changes = method == "full" || name.starts_with("h.");  // adapters are of the blocks
    if (changes && weight.quantized())
      gpt::fail<gpt::UnsupportedError>(
          r.model, "matrix ", name, " is quantized, which --method ", method,
          " cannot change: give the original checkpoint, or --method head or bitfit");
  });
}

std::string majority_label(const gpt::ClassificationDataset& train, const std::vector<std::string>& labels) {
  std::vector<std::int64_t> counts(labels.size());
  for (const std::int32_t c : train.classes()) ++counts[static_cast<std::size_t>(c)];
  return labels[static_cast<std::size_t>(std::ranges::max_element(counts) - counts.begin())];
}

}  // namespace

gpt::Classifier make_classifier(const TrainRequest& r, const std::vector<gpt::LabelledRow>& rows,
                                std::stop_token stop) {
  gpt::Model model = gpt::Model::load(r.model, {.on_warning = program::warn, .stop = stop});
  require_plain_matrices(r, model.network());
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

Taught teach(const Lesson& lesson, gpt::Classifier& classifier, const gpt::TrainingCallbacks& callbacks) {
  const TrainRequest& r = lesson.request;
  const std::vector<gpt::LabelledRow>* own =
      &lesson.rows.augmented;  // what is learned instead of rows.train; empty: that
  std::vector<gpt::LabelledRow> made;
  for (std::int64_t round = 0;; ++round) {
    std::optional<gpt::ClassificationDataset> samples;
    if (!own->empty()) {
      gpt::LabelledRows all;
      all.rows = *own;
      samples = program::make_dataset(classifier, all, r.train_file, r.max_length, r.strict);
    }
    const gpt::ClassificationDataset& train = samples ? *samples : lesson.train;
    const fs::path& directory = r.arguments.output_dir;
    if (round == r.more.rounds())
      return {fit(lesson, classifier, train, directory, callbacks),
              own->empty() ? lesson.rows.train.rows.size() : own->size()};
    {
      program::Progress progress;
      fit(lesson, classifier, train, directory / gpt::concat("round-", round), progress.callbacks());
    }
    made = lesson.rows.augmented.empty() ? lesson.rows.train.rows : lesson.rows.augmented;
    std::ranges::move(sure_rows(r, classifier, lesson.rows.unlabelled, lesson.stop),
                      std::back_inserter(made));
    own = &made;
    classifier = make_classifier(r, lesson.rows.labelled(), lesson.stop);
  }
}

void merge(gpt::Classifier& classifier) {
  gpt::Gpt2& network = classifier.model().network();
  const std::shared_ptr<const gpt::nn::Adapter> adapter = network.adapter();
  if (!adapter) return;
  network.attach(nullptr);
  gpt::merge_adapter(*adapter, network);
}

program::Answers complete(const Lesson& lesson, program::Member& member) {
  const TrainRequest& r = lesson.request;
  const gpt::Classifier& classifier = member.classifier;
  member.words =
      gpt::BagOfWords::train(program::texts_of(lesson.train, lesson.rows.train), lesson.train.classes(),
                             classifier.num_labels(), {.stop = lesson.stop});
  member.settings.majority_label = majority_label(lesson.train, classifier.labels());
  const gpt::Tensor logits = program::logits_of(classifier, lesson.validation, lesson.stop);
  const std::vector<std::string_view> texts = program::texts_of(lesson.validation, lesson.validation_rows);
  const std::vector<std::int32_t> truth = lesson.validation.classes();
  if (r.calibrate_flag.value_or(true) && r.words_flag.value_or(true))
    member.settings.blend = gpt::fit_blend(logits, program::answers_of(member.words, texts), truth);
  else if (r.calibrate_flag.value_or(true))
    member.settings.blend.temperature = gpt::fit_temperature(logits, truth);
  return program::answers_of({&member, 1}, {&logits, 1}, texts);
}

}  // namespace classify
