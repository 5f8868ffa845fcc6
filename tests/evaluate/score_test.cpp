// Log-probabilities and perplexity against what the logits say, computed plainly in double.
#include "gpt/evaluate/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::tiny_config;
using test::tokens;
using ::testing::ElementsAreArray;

// A float32 exponential is wrong by at most 2 ulp, 2.4e-7 of it; so is their sum, whose logarithm is then wrong by as much, and
// the rest is rounded in double.
constexpr double kTolerance = 5e-7;

/// -log p of ids[t] after the tokens from `begin` on, from the logits of all of them.
double plain_nll(const Gpt2& network, const std::vector<TokenId>& ids, std::size_t begin, std::size_t t) {
  const Chunk chunk{std::span(ids).subspan(begin, t - begin)};
  Arena arena;
  const TensorView logits = network.forward({&chunk, 1}, arena).logits;
  double sum = 0;
  for (const float x : logits.span<float>()) sum += std::exp(static_cast<double>(x));
  return std::log(sum) - static_cast<double>(logits.data<float>()[ids[t]]);
}

/// The loop of transformers' guide, token by token.
Perplexity plain_perplexity(const Gpt2& network, const std::vector<TokenId>& ids, std::size_t max_length,
                            std::size_t stride) {
  Perplexity p;
  p.tokens = static_cast<std::int64_t>(ids.size());
  std::size_t prev_end = 0;
  for (std::size_t begin = 0; begin < ids.size(); begin += stride) {
    const std::size_t end = std::min(begin + max_length, ids.size());
    const std::size_t target = end - prev_end;  // the last ones of the window, whose labels are kept
    for (std::size_t t = std::max(end - target, begin + 1); t < end; ++t) {
      p.nll += plain_nll(network, ids, begin, t);
      ++p.scored;
    }
    ++p.windows;
    prev_end = end;
    if (end == ids.size()) break;
  }
  return p;
}

void expect_perplexity(const Perplexity& got, const Perplexity& expected) {
  EXPECT_EQ(got.tokens, expected.tokens);
  EXPECT_EQ(got.scored, expected.scored);
  EXPECT_EQ(got.windows, expected.windows);
  EXPECT_NEAR(got.mean_nll(), expected.mean_nll(), kTolerance);
  EXPECT_NEAR(got.value(), std::exp(expected.mean_nll()), got.value() * 2 * kTolerance);
}

TEST(Perplexity, IsThatOfThePlainLoopOverWindows) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(150);
  for (const auto& [max_length, stride] : {std::pair(32, 16), {32, 1}, {32, 31}, {20, 7}, {2, 1}, {5, 5}})
    for (const std::size_t size : {2u, 19u, 20u, 21u, 64u, 65u, 150u}) {
      SCOPED_TRACE(testing::Message() << max_length << ", " << stride << ", " << size);
      const std::vector<TokenId> text(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(size));
      expect_perplexity(perplexity(network, text, {.max_length = max_length, .stride = stride}),
                        plain_perplexity(network, text, static_cast<std::size_t>(max_length),
                                         static_cast<std::size_t>(stride)));
    }
}

TEST(Perplexity, TakesWindowsOfAllPositionsAndHalfAStrideWhenNotTold) {
  const Gpt2 network = random_network(tiny_config(), 1);
  expect_perplexity(perplexity(network, tokens(100)), plain_perplexity(network, tokens(100), 32, 16));
  expect_perplexity(perplexity(network, tokens(100), {.max_length = 9}),
                    plain_perplexity(network, tokens(100), 9, 4));
}

TEST(Perplexity, LeavesOutTheFirstTokenOfEveryWindowWhenTheStrideIsAWindow) {
  const Gpt2 network = random_network(tiny_config(), 1);
  EXPECT_EQ(perplexity(network, tokens(96), {.stride = 32}).scored, 96 - 3);
  // The last window is a single token.
  const Perplexity p = perplexity(network, tokens(97), {.stride = 32});
  EXPECT_EQ(p.scored, 97 - 4);
  EXPECT_EQ(p.windows, 4);
  EXPECT_EQ(p.nll, perplexity(network, tokens(96), {.stride = 32}).nll);
}

TEST(Perplexity, OfATextThatFitsIsTheLossOfAllItsTokens) {
  const Gpt2 network = random_network(tiny_config(), 1);
  for (const std::int64_t stride : {1, 16, 32}) {
    const Perplexity p = perplexity(network, tokens(12), {.stride = stride});
    EXPECT_EQ(p.windows, 1);
    EXPECT_EQ(p.scored, 11);
    EXPECT_EQ(p.nll, perplexity(network, tokens(12)).nll);
  }
}

TEST(Perplexity, HasTheSameBitsForAnyNumberOfThreadsAndAnyBatches) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(5000);  // several batches of windows
  set_num_threads(1);
  const Perplexity one = perplexity(network, ids);
  set_num_threads(3);
  const Perplexity three = perplexity(network, ids);
  set_num_threads(0);
  EXPECT_EQ(one.nll, three.nll);
  // In batches of one window: the sum of the same numbers in the same order.
  double nll = 0;
  for (std::size_t begin = 0; begin + 32 <= 5000; begin += 16) {
    const auto window = std::span(ids).subspan(begin, 32);
    const auto log_probs = token_log_probs(network, window);
    for (std::size_t i = begin == 0 ? 0 : 15; i < 31; ++i) nll -= log_probs[i];
  }
  const auto last = token_log_probs(network, std::span(ids).last(5000 - 4976));
  for (std::size_t i = 15; i < last.size(); ++i) nll -= last[i];
  EXPECT_EQ(one.nll, nll);
}

TEST(Perplexity, DoesNotDependOnTheHostsRounding) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(500);
  const Perplexity expected = perplexity(network, ids);
  const double mean = expected.mean_nll(), value = expected.value();
  const test::RoundingUpward upward;
  const Perplexity got = perplexity(network, ids);
  EXPECT_EQ(got.nll, expected.nll);
  EXPECT_EQ(got.mean_nll(), mean);
  EXPECT_EQ(got.value(), value);
}

TEST(Perplexity, TellsHowFarItIsAndStopsWhenAsked) {
  const Gpt2 network = random_network(tiny_config(), 1);
  std::vector<std::int64_t> done;
  const auto on_progress = [&done](const EvaluationProgress& p) {
    EXPECT_EQ(p.total, 5000);
    done.push_back(p.done);
  };
  perplexity(network, tokens(5000), {.on_progress = on_progress});
  EXPECT_GT(done.size(), 2u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 5000);

  std::stop_source stop;
  done.clear();
  const auto stop_soon = [&](const EvaluationProgress& p) {
    done.push_back(p.done);
    stop.request_stop();
  };
  EXPECT_THROW(perplexity(network, tokens(5000), {.on_progress = stop_soon, .stop = stop.get_token()}),
               CancelledError);
  EXPECT_EQ(done.size(), 1u);
}

TEST(Perplexity, NamesTheTokenAndTheParameterThatAreNotNumbers) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(20);
  network.visit([&](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "h.1.ln_2.weight") tensor.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  });
  expect_error<NumericError>([&] { perplexity(network, ids); },
                             {"[perplexity]", concat("token id ", ids[1], " after 1 tokens is "),
                              "h.1.ln_2.weight: element [5] is nan"});
}

TEST(Perplexity, RefusesWhatItCannotScore) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto refuse = [&](std::vector<TokenId> ids, const ScoreOptions& options, std::string_view part) {
    expect_error<ArgumentError>([&] { perplexity(network, ids, options); }, {"[perplexity]", part});
  };
  refuse({}, {}, "has 0 tokens, expected 2 or more");
  refuse({1}, {}, "has 1 tokens, expected 2 or more");
  refuse({1, 97}, {}, "token id 97 at index 1 is outside [0, 97)");
  refuse({1, -1}, {}, "token id -1 at index 1 is outside [0, 97)");
  refuse({1, 2}, {.max_length = 33}, "max_length is 33, expected 2 to n_positions = 32");
  refuse({1, 2}, {.max_length = 1}, "max_length is 1, expected 2");
  refuse({1, 2}, {.max_length = 16, .stride = 17}, "stride is 17, expected 1 to max_length = 16");
  refuse({1, 2}, {.stride = -1}, "stride is -1, expected 1");
}

TEST(TokenLogProbs, AreThoseOfTheLogits) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto ids = tokens(32);
  const std::vector<double> log_probs = token_log_probs(network, ids);
  ASSERT_EQ(log_probs.size(), 31u);
  for (std::size_t t = 1; t < 32; ++t)
    EXPECT_NEAR(log_probs[t - 1], -plain_nll(network, ids, 0, t), kTolerance) << t;
}

TEST(TokenLogProbs, OfALongTextHaveTheContextThatTheWindowsLeave) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto ids = tokens(50);
  const std::vector<double> log_probs = token_log_probs(network, ids, {.max_length = 8, .stride = 3});
  ASSERT_EQ(log_probs.size(), 49u);
  EXPECT_NEAR(log_probs[6], -plain_nll(network, ids, 0, 7), kTolerance);
  EXPECT_NEAR(log_probs[7], -plain_nll(network, ids, 3, 8), kTolerance);
  EXPECT_NEAR(log_probs[9], -plain_nll(network, ids, 3, 10), kTolerance);
  EXPECT_NEAR(log_probs[10], -plain_nll(network, ids, 6, 11), kTolerance);
  expect_error<ArgumentError>([&] { token_log_probs(network, ids, {.stride = 32}); },
                              {"[token_log_probs] stride is 32, expected less than max_length = 32"});
  EXPECT_EQ(token_log_probs(network, std::span(ids).first(32), {.stride = 32}).size(), 31u);
}

TEST(ContinuationLogProbs, AreTheSumsOfTheirTokens) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto a = tokens(20), b = tokens(9, 40);
  const auto all = std::span(a);
  const ScoredContinuation pairs[] = {{all.first(12), all.subspan(12)}, {all.first(1), b}, {b, all.last(1)}};
  const std::vector<double> sums = continuation_log_probs(network, pairs);
  ASSERT_EQ(sums.size(), 3u);
  const std::vector<double> tokens_of_a = token_log_probs(network, a);
  double expected = 0;
  for (std::size_t i = 11; i < 19; ++i) expected += tokens_of_a[i];
  EXPECT_EQ(sums[0], expected);
  std::vector<TokenId> second{a[0]};
  second.insert(second.end(), b.begin(), b.end());
  expected = 0;
  for (const double log_prob : token_log_probs(network, second)) expected += log_prob;
  EXPECT_EQ(sums[1], expected);
  // Nothing depends on what else is scored.
  EXPECT_THAT(continuation_log_probs(network, {&pairs[2], 1}), ElementsAreArray({sums[2]}));
}

TEST(ContinuationLogProbs, CutTheContextsBeginning) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto ids = tokens(60);
  const auto all = std::span(ids);
  // 33 tokens fit: the last is predicted, not fed.
  const ScoredContinuation whole[] = {{all.first(50), all.subspan(50)}};
  const ScoredContinuation cut[] = {{all.subspan(27, 23), all.subspan(50)}};
  EXPECT_EQ(continuation_log_probs(network, whole), continuation_log_probs(network, cut));
  const ScoredContinuation longest[] = {{all.first(5), all.subspan(5, 32)}};
  const double sum = continuation_log_probs(network, longest)[0];
  double expected = 0;
  for (std::size_t t = 5; t < 37; ++t) expected -= plain_nll(network, ids, 4, t);
  EXPECT_NEAR(sum, expected, 32 * kTolerance);
}

TEST(ContinuationLogProbs, RefuseWhatHasNoScore) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto ids = tokens(60);
  const auto all = std::span(ids);
  const auto refuse = [&](ScoredContinuation pair, const ScoreOptions& options, std::string_view part) {
    const ScoredContinuation pairs[] = {{all.first(1), all.last(1)}, pair};
    expect_error<ArgumentError>([&] { continuation_log_probs(network, pairs, options); }, {part});
  };
  refuse({{}, all.first(2)}, {}, "the context of pair 1 is empty");
  refuse({all.first(2), {}}, {}, "the continuation of pair 1 has 0 tokens, expected 1 to n_positions = 32");
  refuse({all.first(2), all.first(33)}, {}, "the continuation of pair 1 has 33 tokens");
  refuse({all.first(2), all.first(3)}, {.stride = 2}, "stride 2, expected 0");
  EXPECT_TRUE(continuation_log_probs(network, {}).empty());
}

TEST(ScoreTokens, RanksWhatTheModelWouldRatherHaveHad) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(40);  // more than a window
  const std::vector<double> log_probs = token_log_probs(network, ids);
  const std::vector<ScoredToken> scored = score_tokens(network, ids, 5);
  ASSERT_EQ(scored.size(), 39u);
  for (std::size_t t = 0; t < scored.size(); ++t) {
    EXPECT_EQ(scored[t].token, (RankedToken{ids[t + 1], log_probs[t]}));
    ASSERT_EQ(scored[t].top.size(), 5u);
    for (std::size_t i = 1; i < 5; ++i) EXPECT_GE(scored[t].top[i - 1].log_prob, scored[t].top[i].log_prob);
    EXPECT_GE(scored[t].top[0].log_prob, log_probs[t]);
  }
  std::vector<TokenId> other = ids;  // each of the first window's is what it would be as the text's own
  for (const RankedToken& top : scored[20].top) {
    other[21] = top.id;
    EXPECT_NEAR(top.log_prob, -plain_nll(network, other, 0, 21), kTolerance);
  }
  EXPECT_EQ(score_tokens(network, ids, 97).front().top.size(), 97u);
  EXPECT_TRUE(score_tokens(network, ids, 0).front().top.empty());
  expect_error<ArgumentError>([&] { score_tokens(network, ids, 98); }, {"top_n is 98", "97"});
  expect_error<ArgumentError>([&] { score_tokens(network, ids, -1); }, {"top_n is -1"});
}

TEST(ScoreTokens, RanksEqualTokensByTheirIds) {
  Gpt2 network = random_network(tiny_config(), 1);
  network.visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "wte.weight") std::fill_n(tensor.data<float>(), tensor.numel(), 0.5f);
  });
  const auto scored = score_tokens(network, tokens(3), 4);
  for (TokenId id = 0; id < 4; ++id) EXPECT_EQ(scored[0].top[static_cast<std::size_t>(id)].id, id);
}

}  // namespace
}  // namespace gpt
