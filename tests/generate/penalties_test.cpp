#include "gpt/generate/penalties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "generate/processor_run.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kDropped;
using test::kept;
using test::kNaN;
using test::run;
using ::testing::DoubleNear;
using ::testing::ElementsAreArray;

TEST(RepetitionPenalty, PenalizesEachDistinctTokenOnceTowardsLess) {
  EXPECT_EQ(run(RepetitionPenalty(2.0), {4.0, -4.0, 1.0, 0.0}, {1, 0, 1, 1, 3}),
            (std::vector<double>{2.0, -8.0, 1.0, 0.0}));
  EXPECT_EQ(run(RepetitionPenalty(2.0), {kDropped, 1.0}, {0}), (std::vector<double>{kDropped, 1.0}));
}

TEST(RepetitionPenalty, RefusesATokenOutsideTheVocabulary) {
  expect_error<ArgumentError>([] { run(RepetitionPenalty(2.0), {1.0, 2.0}, {0, 2}); }, {"token id 2"});
  expect_error<ArgumentError>([] { run(RepetitionPenalty(2.0), {1.0, 2.0}, {-1}); }, {"token id -1"});
}

TEST(FrequencyPenalty, CountsEveryOccurrence) {
  EXPECT_EQ(run(FrequencyPenalty(0.5, 0.25), {1.0, 1.0, 1.0, kDropped}, {1, 0, 1, 1, 3}),
            (std::vector<double>{0.25, -0.75, 1.0, kDropped}));
  EXPECT_EQ(run(FrequencyPenalty(0.5, 0.25), {1.0, 1.0},
                DecodingStep{.history = std::vector<TokenId>{0, 1, 1}, .prompt_length = 2}),
            (std::vector<double>{1.0, 0.25}))
      << "not those of the prompt";
  EXPECT_EQ(run(FrequencyPenalty(-1.0, 0.0), {1.0, 1.0}, {0, 0}), (std::vector<double>{3.0, 1.0}));
  EXPECT_EQ(run(FrequencyPenalty(0.0, -2.0), {1.0, 1.0}, {0, 0}), (std::vector<double>{3.0, 1.0}));
  EXPECT_EQ(run(FrequencyPenalty(0.0, 0.0), {1.0}, {0, 5}), (std::vector<double>{1.0}));
  expect_error<ArgumentError>([] { run(FrequencyPenalty(1.0, 0.0), {1.0}, {0, 5}); }, {"token id 5"});
}

TEST(ClassifierFreeGuidance, MovesAwayFromTheUnconditionalLogProbabilities) {
  const std::vector<float> other = {3.0f, 3.0f, 3.0f};  // each has the probability 1/3
  const std::vector<double> scores = {std::log(0.5) + 9.0, std::log(0.25) + 9.0, std::log(0.25) + 9.0};
  const auto guided = run(ClassifierFreeGuidance(3.0), scores, DecodingStep{.unconditional_logits = other});
  const double u = std::log(1.0 / 3.0);
  EXPECT_THAT(guided, ElementsAreArray({DoubleNear(u + 3.0 * (std::log(0.5) - u), 1e-14),
                                        DoubleNear(u + 3.0 * (std::log(0.25) - u), 1e-14),
                                        DoubleNear(u + 3.0 * (std::log(0.25) - u), 1e-14)}));
  EXPECT_EQ(run(ClassifierFreeGuidance(1.0), scores), scores);
}

TEST(ClassifierFreeGuidance, KeepsDroppedWhatEitherDrops) {
  const std::vector<float> other = {1.0f, -std::numeric_limits<float>::infinity(), 1.0f};
  EXPECT_THAT(kept(run(ClassifierFreeGuidance(2.0), {kDropped, 1.0, 1.0},
                       DecodingStep{.unconditional_logits = other})),
              ElementsAreArray({2}));
}

TEST(ClassifierFreeGuidance, NeedsTheUnconditionalLogits) {
  const std::vector<float> other = {1.0f};
  expect_error<ArgumentError>(
      [&] {
        run(ClassifierFreeGuidance(2.0), {1.0, 2.0});
      },
      {"guidance_scale", "found 0"});
  expect_error<ArgumentError>(
      [&] {
        run(ClassifierFreeGuidance(2.0), {1.0, 2.0}, DecodingStep{.unconditional_logits = other});
      },
      {"found 1", "V = 2"});
}

TEST(SequenceBias, AddsWhereTheTokenWouldCompleteASequence) {
  const SequenceBias bias({{{0}, 1.5}, {{3, 1}, -4.0}, {{2, 3, 1}, 0.25}, {{2}, -1.0}, {{0, 2}, 8.0}});
  EXPECT_EQ(run(bias, {0.0, 0.0, 0.0, 0.0}, {2, 3}), (std::vector<double>{1.5, -4.0, -1.0, 0.0}));
  // As in transformers, a sequence of three needs a history of three.
  EXPECT_EQ(run(bias, {0.0, 0.0, 0.0, 0.0}, {0, 2, 3}), (std::vector<double>{1.5, -3.75, -1.0, 0.0}));
  EXPECT_EQ(run(bias, {0.0, 0.0, 0.0, kDropped}, {3, 0}), (std::vector<double>{1.5, 0.0, 7.0, kDropped}));
  EXPECT_EQ(run(bias, {0.0, 0.0, 0.0, 0.0}, {3}), (std::vector<double>{1.5, 0.0, -1.0, 0.0}));
}

TEST(HammingDiversity, CountsWhatTheGroupsBeforeHaveChosen) {
  const std::vector<TokenId> chosen = {2, 0, 2};
  EXPECT_EQ(run(HammingDiversity(0.5), {1.0, 1.0, 1.0}, DecodingStep{.chosen_by_groups = chosen}),
            (std::vector<double>{0.5, 1.0, 0.0}));
  EXPECT_EQ(run(HammingDiversity(0.5), {1.0, 1.0}), (std::vector<double>{1.0, 1.0}));
}

// Dry without breakers by its definition, for allowed >= 1: for each token, the longest end of the history that stands before
// one of its occurrences.
std::vector<double> dry_penalties(const std::vector<TokenId>& history, std::size_t vocab_size,
                                  double multiplier, double base, std::size_t allowed) {
  std::vector<double> penalties(vocab_size, 0.0);
  for (std::size_t id = 0; id < vocab_size; ++id) {
    std::size_t longest = 0;
    for (std::size_t place = 0; place < history.size(); ++place) {
      if (static_cast<std::size_t>(history[place]) != id) continue;
      std::size_t n = 0;
      while (n < place && history[place - 1 - n] == history[history.size() - 1 - n]) ++n;
      longest = std::max(longest, n);
    }
    if (longest >= allowed)
      penalties[id] = multiplier * std::pow(base, static_cast<double>(longest - allowed));
  }
  return penalties;
}

TEST(Dry, PenalizesByTheLengthOfTheRepetition) {
  // The end 1 2 3 stands before 4; 2 3 also before 5, but no longer an end than 3 tokens with it.
  const std::vector<TokenId> history = {1, 2, 3, 4, 0, 2, 3, 5, 1, 2, 3};
  const std::vector<double> zeros(6, 0.0);
  const Dry dry({.multiplier = 0.5, .base = 2.0});
  EXPECT_EQ(run(dry, zeros, history), (std::vector<double>{0.0, 0.0, 0.0, 0.0, -1.0, -0.5}));
  const Dry three({.multiplier = 0.5, .base = 2.0, .allowed_length = 3});
  EXPECT_EQ(run(three, zeros, history), (std::vector<double>{0.0, 0.0, 0.0, 0.0, -0.5, 0.0}));
  const Dry near({.multiplier = 0.5, .base = 2.0, .penalty_last_n = 7});
  EXPECT_EQ(run(near, zeros, history), (std::vector<double>{0.0, 0.0, 0.0, 0.0, 0.0, -0.5}));
  EXPECT_EQ(run(Dry({.multiplier = 0.5, .penalty_last_n = 0}), zeros, history), zeros);
  EXPECT_EQ(run(Dry(Dry::Options{}), zeros, history), zeros);
}

TEST(Dry, CountsBackToTheLastBreaker) {
  const std::vector<TokenId> history = {9, 1, 2, 3, 4, 9, 1, 2, 3};
  const std::vector<double> zeros(10, 0.0);
  const auto penalty_of_4 = [&](std::vector<std::vector<TokenId>> breakers) {
    return -run(Dry({.multiplier = 1.0, .base = 2.0, .sequence_breakers = std::move(breakers)}), zeros,
                history)[4];
  };
  EXPECT_EQ(penalty_of_4({}), 4.0);                // 9 1 2 3
  EXPECT_EQ(penalty_of_4({{9}}), 2.0);             // 1 2 3
  EXPECT_EQ(penalty_of_4({{9, 1}}), 1.0);          // 2 3
  EXPECT_EQ(penalty_of_4({{9, 2}, {9, 1}}), 1.0);  // the other does not stand there
  EXPECT_EQ(penalty_of_4({{1, 2, 3}}), 0.0);
  EXPECT_EQ(penalty_of_4({{2}}), 0.0);  // one token is less than allowed
  EXPECT_EQ(penalty_of_4({{4}}), 0.0);  // a breaker is never penalized
  EXPECT_EQ(penalty_of_4({{4, 7}}), 4.0);
}

TEST(Dry, AgreesWithItsDefinition) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const CounterRng rng(seed);
    const std::size_t V = 2 + seed % 3;
    std::vector<TokenId> history(1 + rng.bits(1000) % 40);
    for (std::size_t i = 0; i < history.size(); ++i) history[i] = static_cast<TokenId>(rng.bits(i) % V);
    const std::size_t allowed = 1 + seed % 4;
    const auto penalties = dry_penalties(history, V, 0.75, 1.5, allowed);
    const auto found =
        run(Dry({.multiplier = 0.75, .base = 1.5, .allowed_length = static_cast<std::int64_t>(allowed)}),
            std::vector<double>(V, 0.0), history);
    for (std::size_t i = 0; i < V; ++i)
      EXPECT_NEAR(-found[i], penalties[i], 1e-12 * penalties[i]) << seed << ' ' << i;
  }
}

TEST(Dry, StaysFiniteForAnyLength) {
  const std::vector<TokenId> history(5000, 1);
  const auto scores = run(Dry({.multiplier = 1.0, .base = 8.0}), {0.0, 0.0}, history);
  EXPECT_EQ(scores[0], 0.0);
  EXPECT_EQ(scores[1], -std::pow(8.0, 42.0));  // 8^42 is the largest power below the largest float
}

TEST(ExponentialDecayLengthPenalty, RaisesEosFromItsStartOn) {
  const ExponentialDecayLengthPenalty penalty({.start_index = 2, .decay_factor = 1.5}, {0, 2});
  const std::vector<TokenId> history(9, 1);
  const auto after = [&](std::size_t new_tokens) {
    return run(penalty, {-2.0, 1.0, 4.0},
               DecodingStep{.history = std::span(history).first(4 + new_tokens), .prompt_length = 4});
  };
  EXPECT_EQ(after(2), (std::vector<double>{-2.0, 1.0, 4.0}));
  EXPECT_EQ(after(3), (std::vector<double>{-1.0, 1.0, 6.0}));
  EXPECT_EQ(after(4), (std::vector<double>{0.5, 1.0, 9.0}));
}

TEST(ExponentialDecayLengthPenalty, StaysFiniteAndLeavesWhatIsDropped) {
  const ExponentialDecayLengthPenalty penalty({.start_index = 0, .decay_factor = 100.0}, {0, 1, 2});
  const std::vector<TokenId> history(1000, 1);
  EXPECT_EQ(run(penalty, {-1.0, kDropped, 0.0, 1.0}, history),
            (std::vector<double>{std::numeric_limits<double>::max(), kDropped, 0.0, 1.0}));
}

TEST(Penalties, RefuseValuesOutsideTheirRangeByName) {
  for (const double bad : {kNaN, -kDropped, kDropped}) {
    expect_error<ArgumentError>([&] { ClassifierFreeGuidance{bad}; }, {"guidance_scale"});
    expect_error<ArgumentError>([&] { FrequencyPenalty(bad, 0.0); }, {"frequency_penalty"});
    expect_error<ArgumentError>([&] { FrequencyPenalty(0.0, bad); }, {"presence_penalty"});
    expect_error<ArgumentError>([&] { SequenceBias({{{1}, bad}}); }, {"sequence_bias"});
  }
  for (const double bad : {0.0, -1.0, kNaN, -kDropped}) {
    expect_error<ArgumentError>([&] { RepetitionPenalty{bad}; }, {"repetition_penalty"});
    expect_error<ArgumentError>(
        [&] {
          ExponentialDecayLengthPenalty({0, bad}, {});
        },
        {"exponential_decay_length_penalty"});
  }
  for (const double bad : {-0.1, kNaN, -kDropped}) {
    expect_error<ArgumentError>([&] { HammingDiversity{bad}; }, {"diversity_penalty"});
    expect_error<ArgumentError>([&] { Dry({.multiplier = bad}); }, {"dry_multiplier"});
    expect_error<ArgumentError>([&] { Dry({.base = bad}); }, {"dry_base"});
  }
  expect_error<ArgumentError>([] { Dry({.base = 0.99}); }, {"dry_base"});
  expect_error<ArgumentError>([] { Dry({.allowed_length = -1}); }, {"dry_allowed_length"});
  expect_error<ArgumentError>([] { Dry({.penalty_last_n = -2}); }, {"dry_penalty_last_n"});
  expect_error<ArgumentError>([] { Dry({.sequence_breakers = {{1}, {}}}); }, {"dry_sequence_breakers"});
  expect_error<ArgumentError>(
      [] {
        ExponentialDecayLengthPenalty({-1, 1.0}, {});
      },
      {"exponential_decay_length_penalty", "-1"});
  expect_error<ArgumentError>([] { SequenceBias({{{}, 1.0}}); }, {"sequence_bias", "empty"});
  expect_error<ArgumentError>(
      [] {
        SequenceBias({{{4, 5}, 1.0}, {{4}, 1.0}, {{4, 5}, 2.0}});
      },
      {"sequence_bias", "begins with 4", "twice"});
  expect_error<ArgumentError>(
      [] {
        run(SequenceBias({{{7}, 1.0}}), {1.0});
      },
      {"sequence_bias", "token id 7"});
}

}  // namespace
}  // namespace gpt
