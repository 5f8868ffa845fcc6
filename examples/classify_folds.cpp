#include <algorithm>
#include <filesystem>
#include <iostream>
#include <system_error>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "classify_options.h"
#include "classify_training.h"
#include "progress.h"

namespace classify {
namespace {

namespace fs = std::filesystem;

/// What a classifier that has learned its lesson says of samples of the same rows.
program::Judgement judge_part(const Lesson& lesson, const gpt::ClassificationDataset& part) {
  program::Member member{make_classifier(lesson.request, lesson.rows.labelled(), lesson.stop)};
  {
    program::Progress progress;
    teach(lesson, member.classifier, progress.callbacks());
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
  const gpt::Classifier shape = make_classifier(r, rows.labelled(), stop);
  const auto all = program::make_dataset(shape, rows.train, r.train_file, r.max_length, r.strict);
  const auto validation =
      r.validation_file
          ? program::make_dataset(shape, validation_rows, *r.validation_file, r.max_length, r.strict)
          : all;
  const auto folds = gpt::stratified_folds(all.classes(), r.folds, r.arguments.seed);
  std::vector<program::Judgement> judgements;
  for (std::size_t k = 0; k < folds.size(); ++k) {
    const gpt::ClassificationDataset part = all.subset(folds[k]),
                                     others = all.subset(all_but(folds[k], all.size()));
    gpt::ClassificationDataset train = others, judging = validation;
    if (!r.validation_file) {
      const Parts parts = split(others.classes(), r.validation_fraction.value_or(kDefaultValidationFraction),
                                r.arguments.seed);
      train = others.subset(parts.train);
      judging = others.subset(parts.validation);
    }
    TrainRequest request = r;
    request.arguments.output_dir = run_directory(r) / gpt::concat("fold-", k + 1);
    request.arguments.resume_from_checkpoint = false;
    choose_epochs(request, train);
    std::error_code error;
    fs::remove_all(request.arguments.output_dir, error);  // of a run that was interrupted
    judgements.push_back(judge_part({request, rows, train, validation_rows, judging, stop}, part));
    fs::remove_all(request.arguments.output_dir, error);
    std::cerr << "part " << k + 1 << " of " << folds.size() << ": " << program::line_of(judgements.back())
              << '\n';
  }
  return judgements;
}

}  // namespace classify
