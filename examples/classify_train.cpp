#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "classify_options.h"
#include "classify_training.h"
#include "output_place.h"
#include "training_records.h"

namespace classify {
namespace {

namespace fs = std::filesystem;
using program::Json;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kDefaultMaxLength = 128;

/// The result would take the place of a model that this run has not made.
void require_own_directory(const TrainRequest& r) {
  std::error_code error;
  if (const std::string name = program::model_file_in(r.output_dir);
      !name.empty() && !fs::exists(run_directory(r), error))
    gpt::fail<gpt::ArgumentError>(r.output_dir, "holds ", name,
                                  ", and no run to resume: choose another --output-dir");
  std::vector<std::string> read{r.train_file};
  for (const auto& file :
       {r.validation_file, r.more.unlabelled_file, r.more.replay_file, r.more.synonyms_file})
    if (file) read.push_back(*file);
  for (const char* name : {"metrics.jsonl", "report.html", "report.json", "classification.json"})
    program::require_not_read("--output-dir", fs::path(r.output_dir) / name, read);
  // All of it is removed in the end.
  for (const std::string& name : program::names_in(run_directory(r))) {
    if (!name.starts_with("checkpoint-") && !name.starts_with("round-") && !name.starts_with("fold-") &&
        !name.starts_with(".checkpoint-") && name != ".lock")
      gpt::fail<gpt::ArgumentError>(run_directory(r).string(), "holds ", name,
                                    ", which no run has made: choose another --output-dir");
  }
}

std::string file_name(const std::string& path) {
  const fs::path p = path;
  return (p.filename().empty() ? p.parent_path() : p).filename().string();
}

/// Writes the result, of an adapter as a whole and for itself. The classifier then has it merged.
void save_result(gpt::Classifier& classifier, const fs::path& directory) {
  if (classifier.model().network().adapter()) classifier.save(directory / "adapter");
  merge(classifier);
  classifier.save(directory);
}

/// How it went, on one page and as JSON.
void write_reports(const TrainRequest& r, const gpt::Classifier& classifier,
                   const program::Judgement* judgement, const std::vector<program::Judgement>& folds,
                   gpt::TrainingHistory history, const std::vector<gpt::TrainingReport::Fact>& data,
                   const std::string& status, const Json& object) {
  gpt::TrainingReport page{.title = gpt::concat(file_name(r.model), " on ", file_name(r.train_file)),
                           .status = status};
  if (judgement != nullptr) {
    page.highlights = program::highlights_of(*judgement);
    page.scores = program::to_grids(*judgement, classifier.labels());
  }
  if (!folds.empty()) page.scores.push_back(program::to_grid(folds));
  page.history = std::move(history);
  page.tables.push_back({"Data", data});
  page.tables.push_back(table_of(classifier.model().config()));
  page.tables.push_back(table_of(r.arguments));
  const fs::path directory = r.output_dir;
  gpt::write_file_atomically(directory / "report.html", to_html(page));
  gpt::write_file_atomically(directory / "report.json", object.dump(2) + "\n");
}

/// Whether there is something from which --resume goes on: locks stay behind of a run that was killed.
bool holds_a_run(const fs::path& directory) {
  return std::ranges::any_of(program::names_in(directory), [&](const std::string& name) {
    const fs::path path = directory / name;
    std::error_code error;
    if (fs::is_directory(fs::symlink_status(path, error))) return holds_a_run(path);
    return name != ".lock" && fs::is_regular_file(path, error);
  });
}

/// "3 labels"
std::string answers_text(const gpt::Classifier& classifier) {
  const char* one = classifier.problem_type() == gpt::ProblemType::kRegression ? "number" : "label";
  return gpt::concat(classifier.num_labels(), ' ', one, classifier.num_labels() == 1 ? "" : "s");
}

int train(TrainRequest& r, std::stop_token stop) {
  const auto start = Clock::now();
  gpt::RowOptions row_options = r.rows;
  row_options.skip_bad_rows = !r.strict;
  row_options.stop = stop;
  const Data rows = read_data(r, row_options);
  program::Member member{make_classifier(r, rows.labelled(), stop)};
  gpt::Classifier& classifier = member.classifier;
  const std::int64_t most = classifier.model().config().n_positions;
  if (r.max_length > most)
    gpt::fail<gpt::ArgumentError>(r.model, "takes ", most, " tokens at most, but --max-length is ",
                                  r.max_length);
  if (r.max_length == 0) r.max_length = std::min(kDefaultMaxLength, most);
  member.settings.max_length = r.max_length;
  const gpt::ClassificationDataset training =
      program::make_dataset(classifier, rows.train, r.train_file, r.max_length, r.strict);
  const gpt::ClassificationDataset validation = program::make_dataset(
      classifier, rows.validation, r.validation_file.value_or(r.train_file), r.max_length, r.strict);
  choose_epochs(r, training);
  Json object = Json::object();
  r.arguments.initial_model = gpt::concat(classifier.model().network().fingerprint(stop));
  std::vector<program::Judgement> folds;
  if (r.folds > 0) {
    folds = cross_validate(r, rows, stop);
    object["cross_validation"] = program::to_json(folds);
    std::cerr << program::to_text(folds);
  }
  std::cerr << program::counted(training.size(), "text") << " to learn from, " << validation.size()
            << " to validate on, " << answers_text(classifier) << '\n';
  const fs::path directory = r.output_dir;
  program::TrainingRecords records(directory / "metrics.jsonl", std::nullopt,
                                   r.arguments.resume_from_checkpoint);
  const Lesson lesson{r, rows, training, rows.validation, validation, stop};
  const Taught taught = teach(lesson, classifier, records.callbacks());
  records.end_progress();
  save_result(classifier, directory);

  std::optional<program::Judgement> judgement;
  if (classifier.problem_type() == gpt::ProblemType::kSingleLabel) {
    const program::Answers answers = complete(lesson, member);
    program::save_words(*member.words, directory);
    judgement =
        program::judge(answers, validation.classes(), classifier.labels(), member.settings.majority_label);
    object.update(program::to_json(*judgement, classifier.labels()));
    object["temperature"] = member.settings.blend.temperature;
    object["words_weight"] = member.settings.blend.weight;
  } else {
    const gpt::EvaluationLog log =
        gpt::Trainer(classifier.model(), {}, std::make_shared<gpt::ClassificationObjective>(classifier))
            .evaluate(validation, stop);
    object["loss"] = log.eval_loss;
    for (const auto& [name, value] : log.metrics) object[name] = value;
  }
  member.settings.save(directory);
  const gpt::TrainingResult& result = taught.result;
  object["global_step"] = result.global_step;
  object["best_step"] = result.best_step;
  object["stopped_early"] = result.stopped_early;
  object["train_s"] = std::chrono::duration<double>(Clock::now() - start).count();
  const std::string status =
      gpt::concat(result.stopped_early ? "Stopped early" : "Finished", " after ", result.global_step,
                  " updates; the best is of update ", result.best_step, ".");
  const std::vector<gpt::TrainingReport::Fact> facts = {
      {"training texts", gpt::concat(training.size())},
      {"of them cut", gpt::concat(training.truncated())},
      {"rows left out", gpt::concat(rows.train.bad + training.bad())},
      {"validation texts", gpt::concat(validation.size())},
      {"rows left out of validation", gpt::concat(rows.validation.bad + validation.bad())},
      {"rows learned from, with those made", gpt::concat(taught.rows)},
      {"method", std::string(method_of(r).name)},
      {"max_length", gpt::concat(r.max_length)},
      {"temperature", program::fixed_text(member.settings.blend.temperature, 4)},
      {"weight of the words", program::fixed_text(member.settings.blend.weight, 4)}};
  write_reports(r, classifier, judgement ? &*judgement : nullptr, folds, records.history(), facts, status,
                object);
  std::error_code error;
  fs::remove_all(run_directory(r), error);
  if (r.json) {
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  } else if (judgement) {
    std::cerr << status << '\n' << program::to_text(*judgement, classifier.labels());
  } else {
    std::cerr << status << '\n' << program::numbers_text(object);
  }
  return program::kDone;
}

}  // namespace

int run(TrainRequest& r) {
  prepare(r);
  const gpt::DirectoryLock lock(r.output_dir);
  require_own_directory(r);
  gpt::set_num_threads(r.threads);
  const program::Interrupt interrupt;
  try {
    return train(r, interrupt.token());
  } catch (const gpt::CancelledError&) {
    if (!holds_a_run(run_directory(r))) throw;
    std::cerr << "interrupted: --resume goes on from what " << run_directory(r).string() << " holds\n";
    return program::kInterrupted;
  }
}

}  // namespace classify
