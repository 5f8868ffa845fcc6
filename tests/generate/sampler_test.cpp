#include "gpt/generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/generate/logits_processors.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// A processor that writes the same value into every score.
class Fill final : public LogitsProcessor {
 public:
  explicit Fill(double value) : value_(value) {}
  void process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const override {
    for (double& score : scores) score = value_;
  }

 private:
  double value_;
};

template <class P, class... Args>
LogitsProcessors only(Args... args) {
  LogitsProcessors list;
  list.push_back(std::make_unique<P>(args...));
  return list;
}

TEST(Sampler, GreedyTakesTheLowestOfTheBest) {
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 3.0f};
  EXPECT_EQ(Sampler({}).next(logits, {}), 1);
  EXPECT_EQ(Sampler(only<TopK>(3)).next(logits, {}), 1);
}

TEST(Sampler, GreedyUsesTheProcessors) {
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f};
  const std::vector<TokenId> history = {1};
  EXPECT_EQ(Sampler(only<RepetitionPenalty>(4.0)).next(logits, history), 2);
}

TEST(Sampler, DrawsInvertTheCumulativeSoftmaxAtTheUniformOfThePosition) {
  const std::vector<float> logits = {0.0f, 1.0f, kMinusInfinity, -1.0f, 0.5f};
  const std::vector<double> scores(logits.begin(), logits.end());
  std::vector<double> p(scores.size());
  softmax(scores, p);
  const CounterRng rng(11);
  Sampler sampler({}, rng);
  std::vector<TokenId> history;
  for (int t = 0; t < 500; ++t) {
    const double u = rng.uniform(history.size());
    TokenId expected = 0;
    for (double cumulative = p[0]; cumulative <= u; cumulative += p[static_cast<std::size_t>(++expected)]) {
    }
    ASSERT_EQ(sampler.next(logits, history), expected) << t;
    history.push_back(0);
  }
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::array<double, 4> p = {0.1, 0.2, 0.3, 0.4};
  std::vector<float> logits;
  for (const double q : p) logits.push_back(static_cast<float>(std::log(q)));
  Sampler sampler({}, CounterRng(3));
  constexpr int kDraws = 20000;
  std::array<int, 4> count{};
  const std::vector<TokenId> history(kDraws, 0);
  for (std::size_t t = 0; t < kDraws; ++t)
    ++count[static_cast<std::size_t>(sampler.next(logits, std::span(history).first(t)))];
  for (std::size_t i = 0; i < p.size(); ++i)
    EXPECT_NEAR(count[i], kDraws * p[i], 5.0 * std::sqrt(kDraws * p[i] * (1.0 - p[i])));
}

TEST(Sampler, NeverDrawsADroppedToken) {
  const std::vector<float> logits = {kMinusInfinity, 0.0f, kMinusInfinity, -800.0f, kMinusInfinity};
  Sampler sampler({}, CounterRng(5));
  const std::vector<TokenId> history(1000, 0);
  for (std::size_t t = 0; t < history.size(); ++t)
    ASSERT_EQ(sampler.next(logits, std::span(history).first(t)), 1);
}

// Remembers the number of tokens and the last one, and allows that and the next alone.
class Climb final : public LogitsProcessor {
 public:
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const override {
    ASSERT_EQ(step.state.size(), 2u);
    const auto last = static_cast<std::size_t>(step.state[1]);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (i != last && i != last + 1) scores[i] = -std::numeric_limits<double>::infinity();
    }
  }
  std::vector<double> initial_state() const override { return {0.0, 0.0}; }
  void update(std::span<double> state, TokenId id, double) const override {
    state[0] += 1.0;
    state[1] = id;
  }
};

TEST(Sampler, EverySequenceHasItsStateAndEveryProcessorItsPartOfIt) {
  LogitsProcessors list;
  list.push_back(std::make_unique<Climb>());
  list.push_back(std::make_unique<Mirostat>(3.0, 0.5));
  Sampler sampler(std::move(list), CounterRng(2));
  std::vector<float> logits(50);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7) * 0.3f;
  std::vector<std::vector<double>> states(2, sampler.initial_state());
  ASSERT_EQ(states[0], (std::vector<double>{0.0, 0.0, 6.0}));
  std::vector<std::vector<TokenId>> sequences(2);
  sequences[1] = {0, 0, 0};  // begins at another place of the random numbers
  const std::size_t begins[] = {0, 3};
  for (int t = 0; t < 20; ++t) {
    for (std::size_t s = 0; s < 2; ++s) {
      const TokenId last = sequences[s].size() == begins[s] ? 0 : sequences[s].back();
      const TokenId id = sampler.next(logits, DecodingStep{.history = sequences[s]}, states[s]);
      EXPECT_TRUE(id == last || id == last + 1);
      sequences[s].push_back(id);
      EXPECT_EQ(states[s][0], t + 1.0);
      EXPECT_EQ(states[s][1], static_cast<double>(id));
    }
  }
  EXPECT_NE(states[0], states[1]);
  expect_error<ArgumentError>([&] { sampler.next(logits, {}); }, {"state", "0 numbers", "expected 3"});
}

TEST(Sampler, MirostatFollowsItsDefinition) {
  const std::vector<float> logits = {2.0f, 1.5f, 1.0f, 0.5f, 0.0f, -0.5f, -1.0f, -3.0f};
  const std::vector<double> scores(logits.begin(), logits.end());
  std::vector<double> p(scores.size());
  softmax(scores, p);
  const CounterRng rng(6);
  Sampler sampler(only<Mirostat>(1.5, 0.4), rng);
  std::vector<double> state = sampler.initial_state();
  std::vector<TokenId> history;
  double mu = 3.0;
  std::size_t fewest = p.size(), most = 0;
  for (int t = 0; t < 300; ++t) {
    std::size_t kept = 1;  // the scores fall
    double mass = p[0];
    while (kept < p.size() && -std::log2(p[kept]) <= mu) mass += p[kept++];
    fewest = std::min(fewest, kept);
    most = std::max(most, kept);
    const double u = rng.uniform(history.size());
    std::size_t expected = 0;
    for (double cumulative = p[0]; cumulative <= u * mass; cumulative += p[expected]) ++expected;
    ASSERT_EQ(sampler.next(logits, DecodingStep{.history = history}, state), static_cast<TokenId>(expected))
        << t;
    mu -= 0.4 * (-std::log2(p[expected] / mass) - 1.5);
    ASSERT_NEAR(state[0], mu, 1e-9);  // a few hundred roundings of numbers around 1
    history.push_back(0);
  }
  EXPECT_LT(fewest + 2, most) << "the test has not met what it is about";
}

TEST(Sampler, StreamsDiffer) {
  const std::vector<float> logits(1000, 0.0f);
  Sampler a({}, CounterRng(1, 0)), b({}, CounterRng(1, 1));
  EXPECT_NE(a.next(logits, {}), b.next(logits, {}));
}

TEST(Sampler, RefusesScoresThatProcessorsMadeUseless) {
  const std::vector<float> logits = {1.0f, 2.0f};
  for (const double value :
       {-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    expect_error<NumericError>([&] { Sampler(only<Fill>(value)).next(logits, {}); }, {"position 0"});
    expect_error<NumericError>([&] { Sampler(only<Fill>(value), CounterRng(1)).next(logits, {}); },
                               {"position 0"});
  }
}

TEST(Sampler, ThrowsWhatAFunctionThrowsAsItIs) {
  LogitsProcessors processors;
  processors.push_back(std::make_unique<FunctionProcessor>(
      [](std::span<double>, const DecodingStep&) { throw std::length_error("my own message"); }));
  Sampler sampler(std::move(processors));
  const std::vector<float> logits = {1.0f, 3.0f};
  EXPECT_EQ(test::message_of<std::length_error>([&] { sampler.next(logits, {}); }), "my own message");
}

TEST(Softmax, SumsToOneAndKeepsZerosForDroppedScores) {
  const std::vector<double> scores = {1e4, 1e4 - 1.0, -std::numeric_limits<double>::infinity(), -1e300};
  std::vector<double> p(4);
  softmax(scores, p);
  EXPECT_EQ(p[2], 0.0);
  EXPECT_EQ(p[3], 0.0);
  EXPECT_NEAR(p[0], 1.0 / (1.0 + std::exp(-1.0)), 1e-15);
  EXPECT_NEAR(p[0] + p[1], 1.0, 1e-15);
}

}  // namespace
}  // namespace gpt
