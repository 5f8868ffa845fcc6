#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "classify_options.h"
#include "classify_training.h"
#include "output_place.h"
#include "progress.h"

namespace classify {
namespace {

namespace fs = std::filesystem;
using program::Json;

constexpr const char* kPartJudgement = "judgement.json";

/// Stands for all that rows say: words read more of a text than the network does.
std::string contents_of(const gpt::LabelledRows& rows) {
  std::string all;
  for (const gpt::LabelledRow& row : rows.rows) {
    all += gpt::concat(row.text.size(), ' ', row.text);
    for (const std::string& label : row.labels) all += gpt::concat(' ', label.size(), ' ', label);
  }
  return gpt::concat(all.size(), " bytes, ", std::hash<std::string>{}(all));
}

/// What the judgement of a part depends on, by name.
Json run_of(const Lesson& lesson, gpt::Classifier& shape, const gpt::ClassificationDataset& part) {
  const TrainRequest& r = lesson.request;
  Json run = Json::object();
  for (const auto& [name, value] : table_of(r.arguments).facts)
    if (name != "output_dir" && name != "resume_from_checkpoint" && name != "logging_steps")
      run[name] = value;
  run["method"] = method_of(r).name;
  run["max_length"] = gpt::concat(r.max_length);
  run["loss"] = make_objective(r, shape, lesson.train)->describe();
  run["calibrate"] = r.calibrate_flag.value_or(true) ? "yes" : "no";
  run["words"] = r.words_flag.value_or(true) ? "yes" : "no";
  run["texts"] = contents_of(lesson.rows.train);
  run["validation texts"] = contents_of(lesson.validation_rows);
  run["training"] = gpt::concat(lesson.train.fingerprint());
  run["validation"] = gpt::concat(lesson.validation.fingerprint());
  run["part"] = gpt::concat(part.fingerprint());
  return run;
}

/// What a run that was interrupted has kept of a part, if that was judged. Throws ArgumentError where it was another run, or this one does
/// not go on from it; FormatError for a file that is none.
std::optional<program::Judgement> kept_judgement(const fs::path& directory, const Json& run, bool resumes) {
  const fs::path path = directory / kPartJudgement;
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  if (!resumes)
    gpt::fail<gpt::ArgumentError>(directory.parent_path().string(),
                                  "holds another run: --resume it, or choose another --output-dir");
  const Json kept = Json::parse(gpt::read_text_file(path), nullptr, false);
  if (!kept.is_object() || !kept.contains("judgement") || !kept.contains("run") || !kept["run"].is_object())
    gpt::fail<gpt::FormatError>(path.string(), "is no judgement of a part");
  for (const auto& [name, value] : run.items())
    if (const Json was = kept["run"].value(name, Json()); was != value)
      gpt::fail<gpt::ArgumentError>(path.string(), name, " was ", was.dump(), ", and is ", value.dump(),
                                    ": resume with that, or choose another --output-dir");
  return program::part_from_json(kept["judgement"], path.string());
}

/// In the place of the part's checkpoints.
void keep(const program::Judgement& judgement, const fs::path& directory, const Json& run) {
  gpt::write_file_atomically(
      directory / kPartJudgement,
      Json{{"run", run}, {"judgement", program::part_to_json(judgement)}}.dump(2) + "\n");
  std::error_code error;
  for (const std::string& name : program::names_in(directory))
    if (name != kPartJudgement) fs::remove_all(directory / name, error);
}

/// What a classifier that has learned its lesson says of samples of the same rows. `name` is what the part is called.
program::Judgement judge_part(const Lesson& lesson, const gpt::ClassificationDataset& part,
                              const std::string& name) {
  program::Member member{make_classifier(lesson.request, lesson.rows.labelled(), lesson.stop)};
  {
    program::Progress progress;
    gpt::TrainingCallbacks callbacks = progress.callbacks();
    callbacks.on_begin = [&](std::optional<std::int64_t> resumed) {
      if (resumed) std::cerr << name << " goes on from step " << *resumed << '\n';
    };
    teach(lesson, member.classifier, callbacks);
  }
  merge(member.classifier);
  complete(lesson, member);
  const gpt::Tensor logits = program::logits_of(member.classifier, part, lesson.stop);
  return program::judge(
      program::answers_of({&member, 1}, {&logits, 1}, program::texts_of(part, lesson.rows.train)),
      part.classes(), member.classifier.labels(), member.settings.majority_label);
}

/// The samples that are none of a part's.
std::vector<std::int64_t> all_but(const std::vector<std::int64_t>& part, std::int64_t count) {
  std::vector<std::int64_t> others;
  for (std::int64_t i = 0; i < count; ++i)
    if (!std::ranges::binary_search(part, i)) others.push_back(i);
  return others;
}

}  // namespace

std::vector<program::Judgement> cross_validate(const TrainRequest& r, const Data& data,
                                               std::stop_token stop) {
  Data whole;  // where the validation rows are among those that are divided
  if (!r.validation_file) {
    whole.train = data.train;
    whole.train.rows.insert(whole.train.rows.end(), data.validation.rows.begin(), data.validation.rows.end());
  }
  const Data& rows = r.validation_file ? data : whole;
  const gpt::LabelledRows& validation_rows = r.validation_file ? rows.validation : rows.train;
  gpt::Classifier shape = make_classifier(r, rows.labelled(), stop);
  const auto all = program::make_dataset(shape, rows.train, r.train_file, r.max_length, r.strict);
  const auto validation =
      r.validation_file
          ? program::make_dataset(shape, validation_rows, *r.validation_file, r.max_length, r.strict)
          : all;
  if (r.folds > all.size())
    gpt::fail<gpt::ArgumentError>(r.train_file, "has ", program::counted(all.size(), "row"),
                                  ", but --folds is ", r.folds);
  const auto folds = gpt::stratified_folds(all.classes(), r.folds, r.arguments.seed);
  std::vector<program::Judgement> judgements;
  for (std::size_t k = 0; k < folds.size(); ++k) {
    const gpt::ClassificationDataset part = all.subset(folds[k]),
                                     others = all.subset(all_but(folds[k], all.size()));
    gpt::ClassificationDataset train = others, judging = validation;
    if (!r.validation_file) {
      const Parts parts = split(others.classes(), r.validation_fraction.value_or(kDefaultValidationFraction),
                                r.arguments.seed, gpt::concat(r.train_file, " without part ", k + 1));
      train = others.subset(parts.train);
      judging = others.subset(parts.validation);
    }
    TrainRequest request = r;
    request.arguments.output_dir = run_directory(r) / gpt::concat("fold-", k + 1);
    choose_epochs(request, train);
    const Lesson lesson{request, rows, train, validation_rows, judging, stop};
    const fs::path& directory = request.arguments.output_dir;
    const std::string name = gpt::concat("part ", k + 1, " of ", folds.size());
    const Json run = run_of(lesson, shape, part);
    const auto kept = kept_judgement(directory, run, r.arguments.resume_from_checkpoint);
    judgements.push_back(kept ? *kept : judge_part(lesson, part, name));
    if (!kept) keep(judgements.back(), directory, run);
    std::cerr << name << (kept ? ", judged before: " : ": ") << program::line_of(judgements.back()) << '\n';
  }
  return judgements;
}

}  // namespace classify
