#include "gpt/train/classification_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/expect_error.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

Model demo_model() { return Model::load(std::filesystem::path(GPT_SOURCE_DIR) / "examples/models/demo"); }

std::vector<LabelledRow> rows_of(std::vector<std::pair<std::string, std::vector<std::string>>> all) {
  std::vector<LabelledRow> rows;
  for (auto& [text, labels] : all)
    rows.push_back({std::move(text), std::move(labels), static_cast<std::int64_t>(rows.size()) + 2});
  return rows;
}

TEST(ClassificationDataset, HoldsIdsAndTheNumbersOfLabels) {
  const Classifier classifier(demo_model(), {"bad", "good"});
  const auto rows = rows_of({{"To be, or not to be", {"good"}},
                             {"", {"bad"}},
                             {"\xFF\xFE long " + std::string(900, 'x'), {"bad"}}});
  const ClassificationDataset data(classifier, rows, {.max_length = 40});
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.at(0).ids, classifier.model().tokenizer().encode("To be, or not to be"));
  EXPECT_THAT(data.at(0).targets, ElementsAreArray({1}));
  EXPECT_THAT(data.at(1).ids, ElementsAreArray({*classifier.pad_token_id()}));
  EXPECT_EQ(data.length(2), 40);
  EXPECT_EQ(data.truncated(), 1);
  EXPECT_THAT(data.classes(), ElementsAreArray({1, 0, 0}));
  EXPECT_THAT(data.rows(), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(message_of<ArgumentError>([&] { data.at(3); }), HasSubstr("sample 3"));
}

TEST(ClassificationDataset, MakesTargetsOfEveryProblemType) {
  const Classifier labels(demo_model(), {"a", "b", "c"}, ProblemType::kMultiLabel);
  const auto several = rows_of({{"x", {"c", "a"}}, {"y", {}}});
  const ClassificationDataset multi(labels, several);
  EXPECT_THAT(multi.at(0).targets, ElementsAreArray({1, 0, 1}));
  EXPECT_THAT(multi.at(1).targets, ElementsAreArray({0, 0, 0}));
  EXPECT_THAT(message_of<ArgumentError>([&] { multi.classes(); }), HasSubstr("not of one class"));
  const Classifier number(demo_model(), {"y"}, ProblemType::kRegression);
  const auto numbers = rows_of({{"x", {"-2.5"}}, {"x", {"many"}}});
  EXPECT_THAT(ClassificationDataset(number, std::span(numbers).first(1)).at(0).targets,
              ElementsAreArray({-2.5f}));
  EXPECT_THAT(message_of<FormatError>([&] { ClassificationDataset(number, numbers, {.source = "f.csv"}); }),
              HasSubstr("[f.csv:3] the label is \"many\", expected a number"));
  // What a table says where there is no number is none.
  const auto holes = rows_of({{"x", {"nan"}}, {"x", {"1"}}, {"x", {"-inf"}}});
  const ClassificationDataset full(number, holes, {.skip_bad_rows = true});
  EXPECT_EQ(full.size(), 1);
  EXPECT_EQ(full.bad(), 2);
  EXPECT_THAT(full.first_bad(), HasSubstr("the label is \"nan\", expected a number"));
}

TEST(ClassificationDataset, NamesOrLeavesOutLabelsThatItDoesNotKnow) {
  const Classifier classifier(demo_model(), {"a", "b"});
  const auto rows = rows_of({{"x", {"a"}}, {"y", {"c"}}, {"z", {"a", "b"}}, {"w", {"b"}}});
  EXPECT_EQ(message_of<FormatError>([&] { ClassificationDataset(classifier, rows, {.source = "f.csv"}); }),
            "[f.csv:3] the label is \"c\", expected one of a, b");
  const ClassificationDataset data(classifier, rows, {.skip_bad_rows = true});
  EXPECT_THAT(data.rows(), ElementsAreArray({0, 3}));
  EXPECT_EQ(data.bad(), 2);
  EXPECT_THAT(data.first_bad(), HasSubstr("the label is \"c\""));
}

TEST(ClassificationDataset, HasPartsWithFingerprintsOfTheirOwn) {
  const Classifier classifier(demo_model(), {"a", "b"});
  const auto rows = rows_of({{"x", {"a"}}, {"y", {"b"}}, {"z", {"a"}}});
  const ClassificationDataset data(classifier, rows);
  const std::vector<std::int64_t> order{2, 0}, other{0, 2};
  const ClassificationDataset part = data.subset(order);
  EXPECT_EQ(part.at(0).ids, data.at(2).ids);
  EXPECT_EQ(part.size(), 2);
  EXPECT_THAT(part.rows(), ElementsAreArray({2, 0}));
  EXPECT_NE(part.fingerprint(), data.subset(other).fingerprint());
  EXPECT_NE(part.fingerprint(), data.fingerprint());
}

TEST(StratifiedFolds, HaveEveryClassInItsShare) {
  std::vector<std::int32_t> classes(103);
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = i % 4 == 0 ? 1 : 0;
  const auto folds = stratified_folds(classes, 5, 1);
  ASSERT_THAT(folds, SizeIs(5));
  std::vector<std::int64_t> all;
  for (const auto& fold : folds) {
    EXPECT_NEAR(static_cast<double>(fold.size()), 103.0 / 5, 1);
    const auto ones = std::ranges::count_if(
        fold, [&](std::int64_t i) { return classes[static_cast<std::size_t>(i)] == 1; });
    EXPECT_NEAR(static_cast<double>(ones), 26.0 / 5, 1);
    all.insert(all.end(), fold.begin(), fold.end());
  }
  std::ranges::sort(all);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<std::int64_t>(i));
  EXPECT_EQ(all.size(), 103u);
  EXPECT_EQ(folds, stratified_folds(classes, 5, 1));
  EXPECT_NE(folds, stratified_folds(classes, 5, 2));
  EXPECT_THAT(message_of<ArgumentError>([&] { stratified_folds(classes, 1, 1); }), HasSubstr("k is 1"));
}

}  // namespace
}  // namespace gpt
