#include "gpt/generate/logits_processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/generate/sampler.h"
#include "support/expect_error.h"
#include "support/json.h"

namespace gpt {
namespace {

using test::expect_error;

constexpr double kDropped = -std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<double> run(const LogitsProcessor& processor, std::vector<double> scores,
                        const std::vector<TokenId>& history = {}) {
  ProcessorScratch scratch;
  processor.process(scores, history, scratch);
  return scores;
}

std::vector<TokenId> kept(const std::vector<double>& scores) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kDropped) ids.push_back(static_cast<TokenId>(i));
  }
  return ids;
}

std::vector<double> random_scores(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<double> scores(n);
  for (std::size_t i = 0; i < n; ++i)
    scores[i] = static_cast<double>(static_cast<float>(3.0 * rng.normal(i)));
  return scores;
}

TEST(RepetitionPenalty, PenalizesEachDistinctTokenOnceTowardsLess) {
  EXPECT_EQ(run(RepetitionPenalty(2.0), {4.0, -4.0, 1.0, 0.0}, {1, 0, 1, 1, 3}),
            (std::vector<double>{2.0, -8.0, 1.0, 0.0}));
  EXPECT_EQ(run(RepetitionPenalty(2.0), {kDropped, 1.0}, {0}), (std::vector<double>{kDropped, 1.0}));
}

TEST(RepetitionPenalty, RefusesATokenOutsideTheVocabulary) {
  expect_error<ArgumentError>([] { run(RepetitionPenalty(2.0), {1.0, 2.0}, {0, 2}); }, {"token id 2"});
  expect_error<ArgumentError>([] { run(RepetitionPenalty(2.0), {1.0, 2.0}, {-1}); }, {"token id -1"});
}

TEST(Temperature, Divides) {
  EXPECT_EQ(run(Temperature(0.5), {1.0, -3.0, kDropped}), (std::vector<double>{2.0, -6.0, kDropped}));
}

TEST(Temperature, NearZeroLeavesTheBestTokenAloneInsteadOfOverflowing) {
  const auto scores = run(Temperature(1e-308), {1000.0, 999.0, -1000.0});
  EXPECT_EQ(scores, (std::vector<double>{0.0, -1.0 / 1e-308, kDropped}));
}

TEST(TopK, KeepsTheTiesOfTheKth) {
  EXPECT_THAT(kept(run(TopK(2), {1.0, 3.0, 2.0, 2.0, 0.0})), ::testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(kept(run(TopK(1), {5.0, 5.0, 5.0})), ::testing::ElementsAre(0, 1, 2));
}

TEST(TopK, ZeroAndTheWholeVocabularyKeepAll) {
  for (const std::int64_t k : {0, 3, 4, 1000000})
    EXPECT_EQ(run(TopK(k), {1.0, 2.0, 3.0}), (std::vector<double>{1.0, 2.0, 3.0}));
}

TEST(TopK, KeepsAllWhenFewerThanKAreLeft) {
  EXPECT_EQ(run(TopK(2), {kDropped, 1.0, kDropped}), (std::vector<double>{kDropped, 1.0, kDropped}));
}

TEST(TopK, AgreesWithASort) {
  const auto scores = random_scores(1000, 7);
  auto sorted = scores;
  std::sort(sorted.rbegin(), sorted.rend());
  for (const std::int64_t k : {1, 2, 3, 17, 50, 499, 500, 501, 999}) {
    auto expected = scores;
    for (double& score : expected) {
      if (score < sorted[static_cast<std::size_t>(k - 1)]) score = kDropped;
    }
    EXPECT_EQ(run(TopK(k), scores), expected) << k;
  }
}

TEST(TopP, KeepsTheFewestThatReachTheMass) {
  const std::vector<double> scores = {std::log(0.2), std::log(0.5), std::log(0.3)};
  EXPECT_THAT(kept(run(TopP(0.45), scores)), ::testing::ElementsAre(1));
  EXPECT_THAT(kept(run(TopP(0.55), scores)), ::testing::ElementsAre(1, 2));
  EXPECT_THAT(kept(run(TopP(0.85), scores)), ::testing::ElementsAre(0, 1, 2));
}

TEST(TopP, ZeroKeepsOneAndOneKeepsAll) {
  EXPECT_THAT(kept(run(TopP(0.0), {1.0, 2.0, 0.0})), ::testing::ElementsAre(1));
  EXPECT_THAT(kept(run(TopP(1.0), {1.0, 2.0, -800.0})), ::testing::ElementsAre(0, 1, 2));
}

TEST(TopP, OfEqualScoresTheLowerIdsStay) {
  EXPECT_THAT(kept(run(TopP(0.5), {1.0, 1.0, 1.0, 1.0})), ::testing::ElementsAre(0, 1));
  EXPECT_THAT(kept(run(TopP(0.0), {0.0, 1.0, 1.0})), ::testing::ElementsAre(1));
}

TEST(MinP, DropsBelowTheFractionOfTheBest) {
  const std::vector<double> scores = {std::log(0.5), std::log(0.3), std::log(0.2)};
  EXPECT_THAT(kept(run(MinP(0.39), scores)), ::testing::ElementsAre(0, 1, 2));
  EXPECT_THAT(kept(run(MinP(0.41), scores)), ::testing::ElementsAre(0, 1));
  EXPECT_THAT(kept(run(MinP(1.0), {2.0, 1.0, 2.0})), ::testing::ElementsAre(0, 2));
  EXPECT_THAT(kept(run(MinP(0.0), {2.0, -1000.0})), ::testing::ElementsAre(0, 1));
}

TEST(LogitsProcessors, RefuseValuesOutsideTheirRangeByName) {
  for (const double bad : {0.0, -1.0, kNaN, -kDropped}) {
    expect_error<ArgumentError>([&] { Temperature{bad}; }, {"temperature"});
    expect_error<ArgumentError>([&] { RepetitionPenalty{bad}; }, {"repetition_penalty"});
  }
  for (const double bad : {-0.001, 1.001, kNaN}) {
    expect_error<ArgumentError>([&] { TopP{bad}; }, {"top_p"});
    expect_error<ArgumentError>([&] { MinP{bad}; }, {"min_p"});
  }
  expect_error<ArgumentError>([] { TopK{-1}; }, {"top_k"});
}

// The sampling.jsonl files of the committed goldens and of those that GPT_GOLDENS names.
std::vector<std::filesystem::path> sampling_goldens() {
  std::vector<std::filesystem::path> roots = {std::filesystem::path(GPT_SOURCE_DIR) / "tests/golden"};
  if (const char* list = std::getenv("GPT_GOLDENS")) {
    std::istringstream stream(list);
    for (std::string root; std::getline(stream, root, ':');) roots.emplace_back(root);
  }
  std::vector<std::filesystem::path> files;
  for (const auto& root : roots) {
    for (const auto& file : {root / "sampling/sampling.jsonl", root / "sampling.jsonl"}) {
      if (std::filesystem::exists(file)) files.push_back(file);
    }
  }
  return files;
}

// The processors for a case's parameters; empty when it needs one that does not exist here.
std::optional<LogitsProcessors> processors_for(const test::Json& params) {
  for (const auto& [key, value] : params.items()) {
    if (key != "repetition_penalty" && key != "temperature" && key != "top_k" && key != "top_p" &&
        key != "min_p")
      return std::nullopt;
  }
  LogitsProcessors list;
  list.push_back(std::make_unique<RepetitionPenalty>(params.value("repetition_penalty", 1.0)));
  list.push_back(std::make_unique<Temperature>(params.value("temperature", 1.0)));
  list.push_back(std::make_unique<TopK>(params.value("top_k", std::int64_t{0})));
  list.push_back(std::make_unique<TopP>(params.value("top_p", 1.0)));
  list.push_back(std::make_unique<MinP>(params.value("min_p", 0.0)));
  return list;
}

TEST(LogitsProcessors, GiveTheGoldenProbabilities) {
  const auto files = sampling_goldens();
  if (files.empty()) GTEST_SKIP() << "no sampling goldens here";
  int applicable = 0;
  for (const auto& file : files) {
    std::ifstream stream(file);
    int line = 0;
    for (std::string text; std::getline(stream, text);) {
      SCOPED_TRACE(file.string() + ":" + std::to_string(++line));
      const auto golden = test::parse_json(text);
      const auto processors = processors_for(golden.at("params"));
      if (!processors) continue;
      ++applicable;
      std::vector<double> scores;
      for (const auto& value : golden.at("logits"))
        scores.push_back(value.is_string() ? kDropped : value.get<double>());
      const auto history = golden.at("history").get<std::vector<TokenId>>();
      ProcessorScratch scratch;
      for (const auto& processor : *processors) processor->process(scores, history, scratch);
      std::vector<double> probabilities(scores.size());
      softmax(scores, probabilities);

      auto expected = golden.at("probs").get<std::vector<double>>();
      const auto expected_kept = golden.at("kept").get<std::vector<TokenId>>();
      if (golden.at("ties").get<bool>()) {  // which of equal scores stay is left open
        std::sort(expected.begin(), expected.end());
        std::sort(probabilities.begin(), probabilities.end());
        EXPECT_EQ(kept(scores).size(), expected_kept.size());
      } else {
        EXPECT_EQ(kept(scores), expected_kept);
      }
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(probabilities[i], expected[i], 1e-9) << i;
    }
  }
  EXPECT_GT(applicable, 0);
}

}  // namespace
}  // namespace gpt
