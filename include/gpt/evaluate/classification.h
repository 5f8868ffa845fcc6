// How good a classifier's answers are, as scikit-learn reports it, and how far its probabilities can be believed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gpt/core/tensor.h"

namespace gpt {

/// Of one class, or a mean over classes. What is divided by 0 is 0 (scikit-learn's zero_division).
struct ClassScores {
  double precision = 0;      // of what was called so, the part that is so
  double recall = 0;         // of what is so, the part that was called so
  double f1 = 0;             // their harmonic mean
  std::int64_t support = 0;  // how many are so
};

/// scikit-learn's classification_report and confusion_matrix.
struct ClassificationScores {
  std::int64_t count = 0;
  double accuracy = 0;
  std::vector<ClassScores> per_class;
  /// Means over the classes that occur, as the truth or as an answer; over all of these alike, or weighted by support.
  ClassScores macro, weighted;
  std::vector<std::vector<std::int64_t>> confusion;  // [truth][answer]
};

/// Of `truth` and the answers to it, numbers of classes below `classes`. Throws ArgumentError: none, not as many answers, another
/// number.
ClassificationScores classification_scores(std::span<const std::int32_t> truth,
                                           std::span<const std::int32_t> answers, std::int64_t classes);

/// The probability that a positive has a higher score than a negative, ties counting half: the area under the ROC curve
/// (roc_auc_score). Empty where all are positive or none is. Throws ArgumentError for scores that are not as many, or not numbers.
std::optional<double> roc_auc(std::span<const bool> positive, std::span<const double> scores);

/// The mean over the classes of each against the rest (multi_class="ovr", average="macro"); of two classes the area of the second.
/// Empty where a class is missing from the truth. `probabilities` has a row of `classes` for each. Throws ArgumentError.
std::optional<double> roc_auc(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                              std::int64_t classes);

/// The expected calibration error (Naeini et al., 2015; Guo et al., arXiv 1706.04599, section 2): answers are put into `bins` of equal
/// width by the probability of the answer; the mean over all of |accuracy - mean probability| of their bin. Throws ArgumentError.
double calibration_error(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                         std::int64_t classes, std::int64_t bins = 15);

/// The mean of -log p(truth) (log_loss); probabilities below 2^-52 count as that. Throws ArgumentError.
double log_loss(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                std::int64_t classes);

/// The temperature that makes softmax(logits / temperature) likeliest on held-out data (Guo et al., section 4.2), between 1/64 and 64:
/// the least of sum(-log p(truth)) + (1 / temperature - 1)^2 / 2, the latter so that few rows that are all right do not ask for
/// certainty. A search that ends at the last bits. Answers stay the same.
///   logits  float32 [R, classes]
///   truth   R numbers of classes
/// Throws ShapeError, ArgumentError.
double fit_temperature(ConstTensorView logits, std::span<const std::int32_t> truth);

/// How far two classifiers of the same texts are to be believed: p = softmax(logits / temperature + weight log q), logits of the one and
/// q the probabilities of the other (a product of experts).
struct Blend {
  double temperature = 1;
  double weight = 0;
};

/// The blend that is likeliest on held-out data: the least of sum(-log p(truth)) + ((1 / temperature - 1/2)^2 + (weight - 1/2)^2) / 2, the
/// latter so that of few rows both are asked. Where the other one only does harm its weight is 0, and the temperature fit_temperature's.
///   logits         float32 [R, classes]
///   probabilities  R rows of classes, below 2^-52 counting as that
///   truth          R numbers of classes
/// Throws ShapeError, ArgumentError, MemoryError.
Blend fit_blend(ConstTensorView logits, std::span<const double> probabilities,
                std::span<const std::int32_t> truth);

/// p of one text: of its row of logits and its row of probabilities, which is not looked at (and may be empty) where the weight is 0.
/// Throws ArgumentError for rows of two lengths, and a temperature that is not above 0.
std::vector<double> blended(std::span<const float> logits, std::span<const double> probabilities,
                            const Blend& blend);

/// The class of the largest number of a row, of equal ones the first.
std::int32_t most_likely(std::span<const double> probabilities);

}  // namespace gpt
