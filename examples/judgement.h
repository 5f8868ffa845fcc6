// How good a classifier's answers are, and how that is told.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/evaluate/classification.h>
#include <gpt/train/report.h>

#include "classification.h"

namespace program {

using Json = nlohmann::ordered_json;

/// What is said of each text, of which one class is right: probabilities, row by row.
struct Answers {
  std::vector<double> together;  // by the classifier
  std::vector<double> network =
      {};  // by its network alone, with the temperature that it was given for that; empty: that is all that it is
  std::vector<double> words = {};  // by the bag of words alone; empty: there is none
};

/// What classifiers say of texts together: the mean of each. `logits` are those of each one's network.
Answers answers_of(std::span<const Member> members, std::span<const gpt::Tensor> logits,
                   std::span<const std::string_view> texts);

/// Scores of one-class answers, with those of simpler ways beside them.
struct Judgement {
  gpt::ClassificationScores scores;
  double log_loss = 0, calibration_error = 0;
  std::optional<double> roc_auc;
  struct Baseline {
    std::string name;
    gpt::ClassificationScores scores;
  };
  std::vector<Baseline> baselines;
};

/// Baselines are what the answers are made of, each alone, and the label that most texts had in training, where that is known.
Judgement judge(const Answers& answers, std::span<const std::int32_t> truth,
                const std::vector<std::string>& labels, const std::string& majority_label);

Json to_json(const Judgement& judgement, const std::vector<std::string>& labels);
/// As scikit-learn's classification_report, with the rest below.
std::string to_text(const Judgement& judgement, const std::vector<std::string>& labels);
std::vector<gpt::TrainingReport::Grid> to_grids(const Judgement& judgement,
                                                const std::vector<std::string>& labels);
std::vector<gpt::TrainingReport::Fact> highlights_of(const Judgement& judgement);

/// The parts of a cross-validation, and over them the mean and standard deviation of the accuracy and macro F1: of the classifier as it
/// answers, its network alone, and the rest of the baselines.
Json to_json(const std::vector<Judgement>& folds);
/// What these say of one part, and the judgement with as much of it. Throws FormatError, beginning with `where`.
Json part_to_json(const Judgement& judgement);
Judgement part_from_json(const Json& part, const std::string& where);
std::string to_text(const std::vector<Judgement>& folds);
gpt::TrainingReport::Grid to_grid(const std::vector<Judgement>& folds);
/// One judgement on one line.
std::string line_of(const Judgement& judgement);

/// The numbers of an object, each on a line of its own: "name  value".
std::string numbers_text(const Json& object);

/// With so many digits behind the point, the same in every locale.
std::string fixed_text(double value, int digits);

}  // namespace program
