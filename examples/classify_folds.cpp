#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

#include <gpt/gpt.h>

#include "classify_training.h"
#include "progress.h"

namespace classify {

program::Json cross_validate(const TrainRequest& r, const Data& data, std::stop_token stop) {
  gpt::LabelledRows rows = data.train;
  if (!r.validation_file)
    rows.rows.insert(rows.rows.end(), data.validation.rows.begin(), data.validation.rows.end());
  const gpt::Classifier shape = make_classifier(r, rows.rows, stop);
  const auto all = program::make_dataset(shape, rows, r.train_file, r.max_length, r.strict);
  const std::vector<std::int32_t> classes = all.classes();
  const auto folds = gpt::stratified_folds(classes, r.folds, r.arguments.seed);
  program::Json list = program::Json::array();
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
    trainer.fit(train, nullptr, progress.callbacks(), stop);
    const program::Judgement judgement =
        program::judge({program::answers_of(classifier, program::logits_of(classifier, held, stop), {}, {})},
                       held.classes(), classifier.labels(), {});
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
    return program::Json{{"mean", mean}, {"std", std::sqrt(squares / static_cast<double>(values.size()))}};
  };
  return {{"folds", std::move(list)}, {"accuracy", summary(accuracies)}, {"macro_f1", summary(f1s)}};
}

}  // namespace classify
