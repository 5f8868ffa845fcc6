// Scores against values worked out by hand, which scikit-learn gives too.
#include "gpt/evaluate/classification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// The example of scikit-learn's confusion_matrix and classification_report: y_true = [2, 0, 2, 2, 0, 1], y_pred = [0, 0, 2, 2, 0, 2].
TEST(ClassificationScores, AreThoseOfAClassificationReport) {
  const std::vector<std::int32_t> truth{2, 0, 2, 2, 0, 1}, answers{0, 0, 2, 2, 0, 2};
  const ClassificationScores s = classification_scores(truth, answers, 3);
  EXPECT_THAT(s.confusion, ElementsAreArray({ElementsAreArray({2, 0, 0}), ElementsAreArray({0, 0, 1}),
                                             ElementsAreArray({1, 0, 2})}));
  EXPECT_DOUBLE_EQ(s.accuracy, 4.0 / 6);
  EXPECT_DOUBLE_EQ(s.per_class[0].precision, 2.0 / 3);
  EXPECT_DOUBLE_EQ(s.per_class[0].recall, 1);
  EXPECT_DOUBLE_EQ(s.per_class[0].f1, 0.8);
  EXPECT_EQ(s.per_class[1].precision, 0);
  EXPECT_EQ(s.per_class[1].f1, 0);
  EXPECT_EQ(s.per_class[1].support, 1);
  EXPECT_DOUBLE_EQ(s.per_class[2].f1, 2.0 / 3);
  EXPECT_DOUBLE_EQ(s.macro.precision, (2.0 / 3 + 0 + 2.0 / 3) / 3);
  EXPECT_DOUBLE_EQ(s.macro.recall, (1 + 0 + 2.0 / 3) / 3);
  EXPECT_DOUBLE_EQ(s.macro.f1, (0.8 + 0 + 2.0 / 3) / 3);
  EXPECT_DOUBLE_EQ(s.weighted.f1, (2 * 0.8 + 0 + 3 * (2.0 / 3)) / 6);
  EXPECT_EQ(s.macro.support, 6);
  EXPECT_EQ(s.count, 6);
}

TEST(ClassificationScores, LeaveAClassThatOccursNowhereOutOfTheMeans) {
  const std::vector<std::int32_t> truth{0, 2, 0}, answers{0, 2, 2};
  const ClassificationScores s = classification_scores(truth, answers, 4);
  EXPECT_DOUBLE_EQ(s.macro.recall, (0.5 + 1) / 2);
  EXPECT_EQ(s.per_class[1].support, 0);
}

TEST(ClassificationScores, NameWhatCannotBeJudged) {
  const std::vector<std::int32_t> none, one{0}, two{0, 1};
  EXPECT_THAT(message_of<ArgumentError>([&] { classification_scores(none, none, 2); }), HasSubstr("nothing"));
  EXPECT_THAT(message_of<ArgumentError>([&] { classification_scores(two, one, 2); }),
              HasSubstr("1 answers for 2"));
  EXPECT_THAT(message_of<ArgumentError>([&] { classification_scores(two, two, 1); }),
              HasSubstr("class 1 at 1 is outside [0, 1)"));
}

// The example of scikit-learn's roc_auc_score: 0.75. And one with a tie, counted in pairs.
TEST(RocAuc, IsTheShareOfPairsInTheRightOrder) {
  const bool positive[] = {false, false, true, true};
  const double scores[] = {0.1, 0.4, 0.35, 0.8};
  EXPECT_EQ(roc_auc(positive, scores), 0.75);
  const double tied[] = {0.1, 0.4, 0.4, 0.8};
  EXPECT_EQ(roc_auc(positive, tied), 0.875);
  const bool all[] = {true, true};
  EXPECT_EQ(roc_auc(all, std::span(scores, 2)), std::nullopt);
}

TEST(RocAuc, IsTheMeanOfEachClassAgainstTheRest) {
  const std::vector<std::int32_t> two{0, 0, 1, 1};
  EXPECT_EQ(roc_auc(two, std::vector{0.9, 0.1, 0.6, 0.4, 0.65, 0.35, 0.2, 0.8}, 2), 0.75);
  // Class 0: 1 of 2 pairs; class 1: 2 of 2; class 2: 1 of 2 and a tie of the other.
  const std::vector<std::int32_t> three{0, 1, 2};
  const std::vector<double> p{0.3, 0.2, 0.5, 0.1, 0.6, 0.3, 0.4, 0.1, 0.5};
  EXPECT_DOUBLE_EQ(*roc_auc(three, p, 3), (0.5 + 1 + 0.75) / 3);
  EXPECT_EQ(roc_auc(std::vector<std::int32_t>{0, 1}, std::span(p).first(6), 3), std::nullopt);
}

TEST(CalibrationError, IsTheGapOfEachBinWeightedByItsSize) {
  // Answers at 0.9 (right), 0.95 (wrong) and 0.6 (right), in bins of a tenth: (|1.85 - 1| + |0.6 - 1|) / 3; 0.9 is in (0.8, 0.9].
  const std::vector<std::int32_t> truth{0, 0, 1};
  const std::vector<double> p{0.92, 0.08, 0.05, 0.95, 0.4, 0.6};
  EXPECT_NEAR(calibration_error(truth, p, 2, 10), (std::fabs(0.92 + 0.95 - 1) + 0.4) / 3, 1e-15);
  EXPECT_NEAR(calibration_error(truth, p, 2, 1), std::fabs(0.92 + 0.95 + 0.6 - 2) / 3, 1e-15);
  const std::vector<double> certain{1, 0, 1, 0, 0, 1};
  EXPECT_EQ(calibration_error(truth, certain, 2), 0);
}

TEST(LogLoss, IsTheMeanOfMinusLogOfTheTruth) {
  const std::vector<std::int32_t> truth{0, 1};
  const std::vector<double> p{0.5, 0.5, 0.75, 0.25};
  EXPECT_NEAR(log_loss(truth, p, 2), (std::log(2) + std::log(4)) / 2, 1e-15);
  const std::vector<double> certain{0, 1, 0, 1};
  EXPECT_NEAR(log_loss(truth, certain, 2), 52 * std::log(2) / 2, 1e-12);
}

// Labels are drawn from softmax(logits), which then are given three times as large.
TEST(Temperature, UndoesLogitsThatAreTooLarge) {
  constexpr std::int64_t kRows = 4000;
  const CounterRng rng(7);
  Tensor logits = Tensor::empty({kRows, 2});
  std::vector<std::int32_t> truth;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const double z = 2 * rng.normal(index);
    truth.push_back(rng.second_uniform(index + kRows) < 1 / (1 + std::exp(-z)) ? 1 : 0);
    logits.data<float>()[2 * i] = 0;
    logits.data<float>()[2 * i + 1] = static_cast<float>(3 * z);
  }
  // The estimate's standard error is about 0.05 of it here.
  EXPECT_NEAR(fit_temperature(logits, truth), 3, 0.4);
}

// At b = 1 / temperature the slope is b - 1 - 2 / (1 + e^b) where both rows are right.
TEST(Temperature, IsHeldNearOneByFewRows) {
  const float logits[] = {1, 0, 0, 1};
  const std::vector<std::int32_t> right{0, 1}, wrong{1, 0};
  const double b = 1 / fit_temperature({logits, {2, 2}}, right);
  EXPECT_NEAR(b - 1, 2 / (1 + std::exp(b)), 1e-12);
  EXPECT_GT(b, 1.3);
  EXPECT_NEAR(fit_temperature({logits, {2, 2}}, wrong), 64, 1e-9);
}

/// Two opinions on which of two classes is right, each made of the truth's log-odds z and noise of its own.
struct TwoOpinions {
  Tensor logits = Tensor::empty({4000, 2});
  std::vector<double> probabilities;
  std::vector<std::int32_t> truth;

  TwoOpinions(double first, double second) {
    const CounterRng rng(11);
    for (std::int64_t i = 0; i < logits.dim(0); ++i) {
      const auto index = static_cast<std::uint64_t>(i);
      const double u = rng.normal(index), v = rng.normal(index + 10000);
      const double z = first * u + second * v;
      truth.push_back(rng.second_uniform(index + 20000) < 1 / (1 + std::exp(-z)) ? 1 : 0);
      logits.data<float>()[2 * i] = 0;
      logits.data<float>()[2 * i + 1] = static_cast<float>(2 * u);
      const double q = 1 / (1 + std::exp(-v));
      probabilities.insert(probabilities.end(), {1 - q, q});
    }
  }
};

// The log-odds of the truth are first u + second v, those of the blend 2 u / temperature + weight v. The standard errors of both
// are about 0.05 here.
TEST(Blend, FindsWhatEachOpinionIsWorth) {
  const TwoOpinions data(1, 0.75);
  const Blend blend = fit_blend(data.logits, data.probabilities, data.truth);
  EXPECT_NEAR(2 / blend.temperature, 1, 0.2);
  EXPECT_NEAR(blend.weight, 0.75, 0.2);
}

TEST(Blend, LeavesOutWhatDoesHarm) {
  const TwoOpinions data(1, -1);
  const Blend blend = fit_blend(data.logits, data.probabilities, data.truth);
  EXPECT_EQ(blend.weight, 0);
  EXPECT_EQ(blend.temperature, fit_temperature(data.logits, data.truth));
}

TEST(Blend, IsAProductOfPowers) {
  const float logits[] = {1, -1, 0.5f};
  const double q[] = {0.2, 0.7, 0.1};
  const std::vector<double> p = blended(logits, q, {.temperature = 2, .weight = 0.5});
  const double a = std::exp(0.5) * std::sqrt(0.2), b = std::exp(-0.5) * std::sqrt(0.7),
               c = std::exp(0.25) * std::sqrt(0.1);
  EXPECT_NEAR(p[0], a / (a + b + c), 1e-15);
  EXPECT_NEAR(p[1], b / (a + b + c), 1e-15);
  EXPECT_NEAR(p[2], c / (a + b + c), 1e-15);
  // Without weight the other one is not asked.
  const std::vector<double> alone = blended(logits, {}, {.temperature = 1});
  EXPECT_NEAR(alone[1] / alone[0], std::exp(-2), 1e-15);
}

TEST(Blend, NamesWhatDoesNotFit) {
  const float logits[] = {1, 0, 0, 1};
  const std::vector<std::int32_t> truth{0, 1}, outside{0, 2};
  const std::vector<double> q{0.5, 0.5, 0.5, 0.5}, few{0.5, 0.5};
  EXPECT_THAT(message_of<ArgumentError>([&] {
                fit_blend({logits, {2, 2}}, few, truth);
              }),
              HasSubstr("2 probabilities, expected 2 for each of 2"));
  EXPECT_THAT(message_of<ArgumentError>([&] {
                fit_blend({logits, {2, 2}}, q, outside);
              }),
              HasSubstr("class 2 at 1"));
  EXPECT_THAT(message_of<ShapeError>([&] { fit_blend({logits, {1, 4}}, q, truth); }), HasSubstr("[1, 4]"));
  EXPECT_THAT(message_of<ArgumentError>([&] { blended(logits, q, {.temperature = 0}); }),
              HasSubstr("temperature is 0"));
  EXPECT_THAT(message_of<ArgumentError>([&] { blended(logits, few, {.weight = 1}); }),
              HasSubstr("2 probabilities for 4 logits"));
}

}  // namespace
}  // namespace gpt
