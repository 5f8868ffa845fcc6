#include "gpt/generate/filters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "generate/processor_run.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/rng.h"
#include "support/expect_error.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kDropped;
using test::kept;
using test::kNaN;
using test::random_scores;
using test::run;
using ::testing::DoubleNear;
using ::testing::ElementsAreArray;

TEST(Temperature, Divides) {
  EXPECT_EQ(run(Temperature(0.5), {1.0, -3.0, kDropped}), (std::vector<double>{2.0, -6.0, kDropped}));
}

TEST(Temperature, NearZeroLeavesTheBestTokenAloneInsteadOfOverflowing) {
  const auto scores = run(Temperature(1e-308), {1000.0, 999.0, -1000.0});
  EXPECT_EQ(scores, (std::vector<double>{0.0, -1.0 / 1e-308, kDropped}));
}

TEST(TopK, KeepsTheTiesOfTheKth) {
  EXPECT_THAT(kept(run(TopK(2), {1.0, 3.0, 2.0, 2.0, 0.0})), ElementsAreArray({1, 2, 3}));
  EXPECT_THAT(kept(run(TopK(1), {5.0, 5.0, 5.0})), ElementsAreArray({0, 1, 2}));
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
  EXPECT_THAT(kept(run(TopP(0.45), scores)), ElementsAreArray({1}));
  EXPECT_THAT(kept(run(TopP(0.55), scores)), ElementsAreArray({1, 2}));
  EXPECT_THAT(kept(run(TopP(0.85), scores)), ElementsAreArray({0, 1, 2}));
}

TEST(TopP, ZeroKeepsOneAndOneKeepsAll) {
  EXPECT_THAT(kept(run(TopP(0.0), {1.0, 2.0, 0.0})), ElementsAreArray({1}));
  EXPECT_THAT(kept(run(TopP(1.0), {1.0, 2.0, -800.0})), ElementsAreArray({0, 1, 2}));
}

TEST(TopP, OfEqualScoresTheLowerIdsStay) {
  EXPECT_THAT(kept(run(TopP(0.5), {1.0, 1.0, 1.0, 1.0})), ElementsAreArray({0, 1}));
  EXPECT_THAT(kept(run(TopP(0.0), {0.0, 1.0, 1.0})), ElementsAreArray({1}));
}

TEST(MinP, DropsBelowTheFractionOfTheBest) {
  const std::vector<double> scores = {std::log(0.5), std::log(0.3), std::log(0.2)};
  EXPECT_THAT(kept(run(MinP(0.39), scores)), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(kept(run(MinP(0.41), scores)), ElementsAreArray({0, 1}));
  EXPECT_THAT(kept(run(MinP(1.0), {2.0, 1.0, 2.0})), ElementsAreArray({0, 2}));
  EXPECT_THAT(kept(run(MinP(0.0), {2.0, -1000.0})), ElementsAreArray({0, 1}));
}

// The log-probabilities of these four tokens are exact to the last digits; H = 1.2798542258336676 nats.
const std::vector<double> kTenths = {std::log(0.4), std::log(0.3), std::log(0.2), std::log(0.1)};

std::vector<double> shifted(std::vector<double> scores, double by) {
  for (double& score : scores) score += by;
  return scores;
}

TEST(TypicalP, KeepsWhatIsNearestToTheEntropy) {
  // |-log p - H| is 0.363, 0.076, 0.330, 1.023: the order is 1, 2, 0, 3.
  EXPECT_THAT(kept(run(TypicalP(0.29), kTenths)), ElementsAreArray({1}));
  EXPECT_THAT(kept(run(TypicalP(0.31), kTenths)), ElementsAreArray({1, 2}));
  EXPECT_THAT(kept(run(TypicalP(0.49), shifted(kTenths, 50.0))), ElementsAreArray({1, 2}));
  EXPECT_THAT(kept(run(TypicalP(0.51), kTenths)), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(kept(run(TypicalP(0.95), kTenths)), ElementsAreArray({0, 1, 2, 3}));
  EXPECT_EQ(run(TypicalP(1.0), kTenths), kTenths);
}

TEST(TypicalP, KeepsTheTiesOfTheLastAndIgnoresWhatIsDropped) {
  EXPECT_THAT(kept(run(TypicalP(0.1), {1.0, 1.0, kDropped, 1.0})), ElementsAreArray({0, 1, 3}));
  EXPECT_THAT(kept(run(TypicalP(0.31), {kTenths[0], kDropped, kTenths[1], kTenths[2], kTenths[3]})),
              ElementsAreArray({2, 3}));
}

TEST(EpsilonCutoff, DropsBelowItButNotTheBest) {
  EXPECT_THAT(kept(run(EpsilonCutoff(0.15), kTenths)), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(kept(run(EpsilonCutoff(0.25), shifted(kTenths, -9.0))), ElementsAreArray({0, 1}));
  EXPECT_THAT(kept(run(EpsilonCutoff(0.9), kTenths)), ElementsAreArray({0}));
  EXPECT_THAT(kept(run(EpsilonCutoff(0.9), {1.0, 0.5, 1.0})), ElementsAreArray({0, 2}));
  EXPECT_EQ(run(EpsilonCutoff(0.0), {0.0, -700.0}), (std::vector<double>{0.0, -700.0}));
}

TEST(EtaCutoff, IsTheLesserOfTheCutoffAndItsRootByTheEntropy) {
  // exp(-H) = 0.27808: sqrt(0.64) exp(-H) = 0.22246 and sqrt(0.16) exp(-H) = 0.11123 are the lesser ones.
  EXPECT_THAT(kept(run(EtaCutoff(0.64), kTenths)), ElementsAreArray({0, 1}));
  EXPECT_THAT(kept(run(EtaCutoff(0.16), kTenths)), ElementsAreArray({0, 1, 2}));
  // sqrt(0.05) exp(-H) = 0.0622 is not: 0.05 is.
  EXPECT_THAT(kept(run(EtaCutoff(0.05), {std::log(0.49), std::log(0.45), std::log(0.055), std::log(0.005)})),
              ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(kept(run(EtaCutoff(0.99), {kDropped, 1.0, kDropped})), ElementsAreArray({1}));
  EXPECT_EQ(run(EtaCutoff(0.0), kTenths), kTenths);
}

TEST(TopNSigma, DropsBelowSoManyStandardDeviations) {
  // Of 0, 0, 4, 4 the standard deviation is 2; what is dropped does not count.
  EXPECT_THAT(kept(run(TopNSigma(1.9), {0.0, 4.0, kDropped, 0.0, 4.0})), ElementsAreArray({1, 4}));
  EXPECT_THAT(kept(run(TopNSigma(2.0), {0.0, 4.0, kDropped, 0.0, 4.0})), ElementsAreArray({0, 1, 3, 4}));
  EXPECT_EQ(run(TopNSigma(0.0), {0.0, 4.0}), (std::vector<double>{0.0, 4.0}));
  EXPECT_EQ(run(TopNSigma(0.5), {3.0}), (std::vector<double>{3.0}));
}

TEST(DynamicTemperature, GoesWithTheEntropyFromLowToHigh) {
  // The entropy of equal scores is the largest: the temperature is 1.5 + 0.5.
  EXPECT_EQ(run(DynamicTemperature(1.5, 0.5, 3.0), {3.0, 3.0, kDropped}),
            (std::vector<double>{1.5, 1.5, kDropped}));
  // H / log 4 = 0.92321933; 0.7 + 0.6 * that = 1.2539316.
  const double temperature = 0.7 + 0.6 * (1.2798542258336676 / std::log(4.0));
  const auto linear = run(DynamicTemperature(1.0, 0.3, 1.0), kTenths);
  const auto squared = run(DynamicTemperature(1.0, 0.3, 2.0), kTenths);
  const double of_square = 0.7 + 0.6 * std::pow(1.2798542258336676 / std::log(4.0), 2.0);
  for (std::size_t i = 0; i < kTenths.size(); ++i) {
    EXPECT_NEAR(linear[i], kTenths[i] / temperature, 1e-14);
    EXPECT_NEAR(squared[i], kTenths[i] / of_square, 1e-14);
  }
}

TEST(DynamicTemperature, OfZeroLeavesTheBestAndOneTokenStaysAsItIs) {
  EXPECT_THAT(kept(run(DynamicTemperature(1.0, 2.0, 1.0), {-1e4, 1e4, -1e4})), ElementsAreArray({1}));
  EXPECT_EQ(run(DynamicTemperature(1.0, 0.5, 1.0), {kDropped, 8.0}), (std::vector<double>{kDropped, 8.0}));
}

TEST(Xtc, DropsTheTopChoicesButTheLeastProbableOfThem) {
  const CounterRng rng(3);
  const DecodingStep step{.rng = &rng};
  const auto of = [&](double threshold, const std::vector<double>& scores) {
    return kept(run(Xtc(1.0, threshold), scores, step));
  };
  EXPECT_THAT(of(0.15, kTenths), ElementsAreArray({2, 3}));
  EXPECT_THAT(of(0.25, kTenths), ElementsAreArray({1, 2, 3}));
  EXPECT_THAT(of(0.35, kTenths), ElementsAreArray({0, 1, 2, 3}));  // one choice at the top stays
  EXPECT_THAT(of(0.9, kTenths), ElementsAreArray({0, 1, 2, 3}));
  EXPECT_THAT(of(0.2, {1.0, kDropped, 1.0, 1.0}), ElementsAreArray({3}));  // of equal ones the last
}

TEST(Xtc, ActsWithItsProbabilityByThePositionAlone) {
  const CounterRng rng(4);
  int acted = 0;
  const std::vector<TokenId> history(2000, 0);
  for (std::size_t t = 0; t < history.size(); ++t) {
    const DecodingStep step{.history = std::span(history).first(t), .rng = &rng};
    const bool acts = run(Xtc(0.3, 0.1), kTenths, step) != kTenths;
    EXPECT_EQ(acts, rng.second_uniform(t) < 0.3);
    acted += acts;
  }
  EXPECT_NEAR(acted, 600, 5 * std::sqrt(2000 * 0.3 * 0.7));
  EXPECT_EQ(run(Xtc(0.0, 0.1), kTenths), kTenths);
  expect_error<ArgumentError>([] { run(Xtc(0.5, 0.1), kTenths); }, {"xtc", "random numbers"});
}

TEST(Mirostat, DropsWhatIsMoreSurprisingThanMu) {
  // The surprises in bits are 1.32, 1.74, 2.32, 3.32.
  const auto of = [](double mu) {
    return kept(run(Mirostat(1.0, 0.1), shifted(kTenths, 7.0), DecodingStep{.state = std::span(&mu, 1)}));
  };
  EXPECT_THAT(of(3.4), ElementsAreArray({0, 1, 2, 3}));
  EXPECT_THAT(of(3.0), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(of(1.4), ElementsAreArray({0}));
  EXPECT_THAT(of(-5.0), ElementsAreArray({0}));  // never the best
  expect_error<ArgumentError>([] { run(Mirostat(1.0, 0.1), kTenths); }, {"mirostat", "state"});
}

TEST(Mirostat, MovesMuTowardsTheSurpriseItWants) {
  const Mirostat mirostat(3.0, 0.25);
  std::vector<double> state = mirostat.initial_state();
  EXPECT_EQ(state, std::vector<double>{6.0});
  mirostat.update(state, 0, 0.125);  // a surprise of 3 bits: as it should be
  EXPECT_NEAR(state[0], 6.0, 1e-14);
  mirostat.update(state, 0, 0.5);  // 1 bit
  EXPECT_NEAR(state[0], 6.5, 1e-14);
  mirostat.update(state, 0, 1.0 / 256.0);  // 8 bits
  EXPECT_NEAR(state[0], 5.25, 1e-14);
}

TEST(Renormalize, MakesLogProbabilities) {
  const auto scores =
      run(Renormalize(), shifted({kTenths[0], kTenths[1], kDropped, kTenths[2], kTenths[3]}, 700.0));
  EXPECT_THAT(scores,
              testing::ElementsAre(DoubleNear(kTenths[0], 1e-12), DoubleNear(kTenths[1], 1e-12), kDropped,
                                   DoubleNear(kTenths[2], 1e-12), DoubleNear(kTenths[3], 1e-12)));
}

TEST(Filters, LeaveARowWithoutTokensAsItIs) {
  const std::vector<double> none = {kDropped, kDropped, kDropped};
  const CounterRng rng(1);
  const double mu = 1.0;
  LogitsProcessors all;
  all.push_back(std::make_unique<Temperature>(0.5));
  all.push_back(std::make_unique<DynamicTemperature>(1.0, 0.5, 1.0));
  all.push_back(std::make_unique<TopNSigma>(1.0));
  all.push_back(std::make_unique<TopK>(1));
  all.push_back(std::make_unique<TopP>(0.5));
  all.push_back(std::make_unique<MinP>(0.5));
  all.push_back(std::make_unique<TypicalP>(0.5));
  all.push_back(std::make_unique<EpsilonCutoff>(0.5));
  all.push_back(std::make_unique<EtaCutoff>(0.5));
  all.push_back(std::make_unique<Xtc>(1.0, 0.1));
  all.push_back(std::make_unique<Mirostat>(1.0, 0.1));
  all.push_back(std::make_unique<Renormalize>());
  for (const auto& filter : all)
    EXPECT_EQ(run(*filter, none, DecodingStep{.rng = &rng, .state = std::span(&mu, 1)}), none);
}

TEST(Filters, RefuseValuesOutsideTheirRangeByName) {
  for (const double bad : {0.0, -1.0, kNaN, -kDropped}) {
    expect_error<ArgumentError>([&] { Temperature{bad}; }, {"temperature"});
    expect_error<ArgumentError>([&] { DynamicTemperature(bad, 1.0, 1.0); }, {"temperature"});
    expect_error<ArgumentError>([&] { DynamicTemperature(1.0, bad, 1.0); }, {"dynatemp_range"});
    expect_error<ArgumentError>([&] { DynamicTemperature(1.0, 1.0, bad); }, {"dynatemp_exponent"});
    expect_error<ArgumentError>([&] { Mirostat(bad, 1.0); }, {"mirostat_tau"});
    expect_error<ArgumentError>([&] { Mirostat(1.0, bad); }, {"mirostat_eta"});
  }
  for (const double bad : {-0.001, 1.001, kNaN}) {
    expect_error<ArgumentError>([&] { TopP{bad}; }, {"top_p"});
    expect_error<ArgumentError>([&] { MinP{bad}; }, {"min_p"});
    expect_error<ArgumentError>([&] { TypicalP{bad}; }, {"typical_p"});
    expect_error<ArgumentError>([&] { EpsilonCutoff{bad}; }, {"epsilon_cutoff"});
    expect_error<ArgumentError>([&] { EtaCutoff{bad}; }, {"eta_cutoff"});
    expect_error<ArgumentError>([&] { Xtc(bad, 0.1); }, {"xtc_probability"});
    expect_error<ArgumentError>([&] { Xtc(0.1, bad); }, {"xtc_threshold"});
  }
  expect_error<ArgumentError>([] { TypicalP{0.0}; }, {"typical_p"});
  expect_error<ArgumentError>([] { EpsilonCutoff{1.0}; }, {"epsilon_cutoff"});
  expect_error<ArgumentError>([] { EtaCutoff{1.0}; }, {"eta_cutoff"});
  for (const double bad : {-1.0, kNaN, -kDropped})
    expect_error<ArgumentError>([&] { TopNSigma{bad}; }, {"top_n_sigma"});
  expect_error<ArgumentError>([] { TopK{-1}; }, {"top_k"});
}

TEST(Filters, TheHostsRoundingDoesNotChangeWhatTheyAreMadeOf) {
  const std::vector<double> scores = random_scores(50, 3);
  for (int k = 1; k < 1000; ++k) {
    const double x = k / 1000.0, range = 0.7 * x;
    const std::vector<double> at_the_bar{0.0, math::log(x)};
    const auto results = [&](const LogitsProcessor& min_p, const LogitsProcessor& temperature) {
      return std::pair(run(min_p, at_the_bar), run(temperature, scores));
    };
    const auto expected = results(MinP(x), DynamicTemperature(x, range, 1.0));
    std::unique_ptr<MinP> min_p;
    std::unique_ptr<DynamicTemperature> temperature;
    {
      const test::RoundingUpward host;
      min_p = std::make_unique<MinP>(x);
      temperature = std::make_unique<DynamicTemperature>(x, range, 1.0);
    }
    ASSERT_EQ(results(*min_p, *temperature), expected) << x;
  }
}

}  // namespace
}  // namespace gpt
