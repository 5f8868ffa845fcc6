// Beam search: the rule by itself on scores written by hand, and over a model.
#include "generate/beam_search.h"
#include "generate/log_probs_after.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using generate::BeamCandidate;
using generate::BeamSearch;
using test::expect_error;
using test::kPrompt;
using test::log_probs_after;
using test::tiny_model;
using ::testing::ElementsAreArray;
using ::testing::Pair;
using Ids = std::vector<TokenId>;

constexpr double kInf = std::numeric_limits<double>::infinity();
// Of a log-probability: its sum of exponentials is taken over floats, each within 2 units of its last place.
constexpr double kLogProbError = 2.5e-7;

std::vector<std::pair<std::size_t, TokenId>> places(const std::vector<BeamCandidate>& candidates) {
  std::vector<std::pair<std::size_t, TokenId>> found;
  for (const BeamCandidate& candidate : candidates) found.emplace_back(candidate.beam, candidate.id);
  return found;
}

TEST(BeamCandidates, AreTheBestOfAllBeamsAndOfEqualOnesTheFirst) {
  const std::vector<double> sums = {-3, -1, -kInf, -2, -1, -kInf, -5, -2};
  std::vector<BeamCandidate> candidates;
  best_candidates(sums, 2, 4, candidates);
  EXPECT_THAT(places(candidates), ElementsAreArray({Pair(0u, 1), Pair(1u, 0), Pair(0u, 3), Pair(1u, 3)}));
  best_candidates(sums, 2, 20, candidates);
  EXPECT_EQ(candidates.size(), 6u) << "dropped ones are no candidates";
}

TEST(BeamCandidates, AreDrawnWithoutReplacementFromTheSoftmaxOfTheSums) {
  // Probabilities 0.5, 0.3, 0.2, and one that is dropped. Of two draws: P(0 and 1) = 0.5 0.3/0.5 + 0.3 0.5/0.7, ...
  const std::vector<double> sums = {std::log(0.5), std::log(0.3), -kInf, std::log(0.2)};
  std::map<std::pair<TokenId, TokenId>, int> counts;
  constexpr int kRuns = 20000;
  const CounterRng rng(7);
  std::vector<double> weights;
  std::vector<BeamCandidate> candidates;
  for (std::uint64_t i = 0; i < kRuns; ++i) {
    ASSERT_TRUE(draw_candidates(sums, 1, 2, rng, 2 * i, {}, weights, candidates));
    ASSERT_EQ(candidates.size(), 2u);
    EXPECT_GT(candidates[0].sum, candidates[1].sum);
    ++counts[{candidates[0].id, candidates[1].id}];
  }
  const double p[] = {0.5, 0.3, 0.2};
  const auto both = [&](int a, int b) { return p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]); };
  const double expected[] = {both(0, 1), both(0, 2), both(1, 2)};
  const int found[] = {counts[{0, 1}], counts[{0, 3}], counts[{1, 3}]};
  double chi_square = 0.0;
  for (int i = 0; i < 3; ++i) {
    const double mean = expected[i] * kRuns;
    chi_square += (found[i] - mean) * (found[i] - mean) / mean;
  }
  EXPECT_LT(chi_square, 13.8) << "two degrees of freedom: 0.1 % of seeds are above";
  EXPECT_TRUE(draw_candidates(sums, 1, 9, rng, 0, {}, weights, candidates));
  EXPECT_EQ(candidates.size(), 3u);
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_FALSE(draw_candidates(sums, 1, 9, rng, 0, stopped.get_token(), weights, candidates));
}

// Advances with candidates of the beam 0 alone.
void advance(BeamSearch& search, const std::vector<std::pair<TokenId, double>>& best) {
  std::vector<BeamCandidate> candidates;
  for (const auto& entry : best) candidates.push_back({0, entry.first, entry.second});
  search.advance(candidates);
}

TEST(BeamSearch, AnEosTokenBeyondTheFirstBeamsIsPassedOver) {
  BeamSearch search({.num_beams = 2, .max_new_tokens = 9, .eos_token_id = {0}}, kPrompt);
  advance(search, {{5, -1}, {0, -2}, {6, -3}, {7, -4}});
  ASSERT_EQ(search.beams().size(), 2u);
  EXPECT_EQ(search.beams()[1].tokens.back(), 6);
  advance(search, {{5, -2}, {6, -3}, {0, -4}});
  const auto hypotheses = search.finish(FinishReason::kLength);
  ASSERT_EQ(hypotheses.size(), 2u);
  EXPECT_EQ(hypotheses[0].score, -1.0);  // -2 over 2 tokens, from beam 0
  EXPECT_EQ(hypotheses[1].score, -1.5);  // -3 over 2 tokens; of the eos token -2 over 1
}

TEST(BeamSearch, StopsAsEarlyStoppingSays) {
  const auto done_after = [](EarlyStopping early_stopping, double length_penalty, double best) {
    BeamSearch search({.num_beams = 2,
                       .length_penalty = length_penalty,
                       .early_stopping = early_stopping,
                       .max_new_tokens = 10,
                       .eos_token_id = {0, 1}},
                      kPrompt);
    EXPECT_EQ(search.candidates_per_step(), 6u);
    advance(search,
            {{0, best}, {1, -4.0}, {6, -4.5}, {7, -5.0}});  // two hypotheses, the worst with the score -4
    EXPECT_EQ(search.beams().size(), 2u);
    return search.done();
  };
  EXPECT_TRUE(done_after(EarlyStopping::kTrue, 1.0, -1.0));
  EXPECT_FALSE(done_after(EarlyStopping::kFalse, 1.0, -1.0)) << "-1 over 1 token is better than -4";
  EXPECT_TRUE(done_after(EarlyStopping::kFalse, 1.0, -4.0));
  EXPECT_FALSE(done_after(EarlyStopping::kNever, 1.0, -4.0)) << "-4 over 10 tokens is better";
  EXPECT_TRUE(done_after(EarlyStopping::kNever, 0.0, -4.0)) << "a longer one can be no better";
}

TEST(BeamSearch, ALengthPenaltyOfAnySignCounts) {
  const auto score = [](double length_penalty) {
    BeamSearch search({.num_beams = 1, .length_penalty = length_penalty, .max_new_tokens = 9}, kPrompt);
    for (int i = 1; i <= 3; ++i) advance(search, {{5, -2.0 * i}});
    return search.finish(FinishReason::kLength).at(0).score;
  };
  EXPECT_EQ(score(0.0), -6.0);
  EXPECT_EQ(score(1.0), -2.0);
  EXPECT_EQ(score(2.0), -6.0 / 9.0);
  EXPECT_EQ(score(-1.0), -6.0 / (1.0 / 3.0));
  EXPECT_NEAR(score(0.5), -6.0 / std::sqrt(3.0), 1e-14);  // exp and log round a few times
}

std::vector<GenerateResult> all(const Model& model, const GenerateOptions& options,
                                const Ids& prompt = kPrompt) {
  return Generator(model).generate(std::span(&prompt, 1), options);
}

double sum_of(const Model& model, const GenerateResult& result) {
  Ids tokens = result.prompt_ids;
  double sum = 0.0;
  for (const TokenId id : result.ids) {
    sum += log_probs_after(model, tokens).at(static_cast<std::size_t>(id));
    tokens.push_back(id);
  }
  return sum;
}

TEST(BeamGeneration, OfAllContinuationsFindsTheBestWhenBeamsAreMany) {
  const Model model = tiny_model();
  // With as many beams as tokens, the first step keeps all of them: the search over two tokens is complete.
  const auto results =
      all(model, {.max_new_tokens = 2, .num_return_sequences = 5, .num_beams = 97, .length_penalty = 0.0});
  std::vector<std::pair<double, Ids>> expected;
  const auto first = log_probs_after(model, kPrompt);
  for (TokenId a = 0; a < 97; ++a) {
    Ids tokens = kPrompt;
    tokens.push_back(a);
    const auto second = log_probs_after(model, tokens);
    for (TokenId b = 0; b < 97; ++b)
      expected.emplace_back(first[static_cast<std::size_t>(a)] + second[static_cast<std::size_t>(b)],
                            Ids{a, b});
  }
  std::sort(expected.begin(), expected.end(), std::greater<>());
  ASSERT_EQ(results.size(), 5u);
  for (std::size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(results[i].ids, expected[i].second) << i;
    EXPECT_NEAR(results[i].score.value(), expected[i].first, 2 * kLogProbError);
    EXPECT_EQ(results[i].finish_reason, FinishReason::kLength);
  }
}

TEST(BeamGeneration, ItsScoresAreThoseOfItsTokensInEveryOptionAndCacheType) {
  const Model model = tiny_model();
  for (const EarlyStopping early : {EarlyStopping::kFalse, EarlyStopping::kTrue, EarlyStopping::kNever}) {
    const auto results = all(model, {.max_new_tokens = 27,
                                     .num_return_sequences = 4,
                                     .num_beams = 4,
                                     .early_stopping = early,
                                     .eos_token_id = Ids{7, 30, 61},
                                     .logprobs = 1});
    ASSERT_EQ(results.size(), 4u);
    for (const GenerateResult& result : results) {
      const auto n = static_cast<double>(result.ids.size());
      EXPECT_NEAR(result.score.value(), sum_of(model, result) / n, kLogProbError);
      double sum = 0.0;
      for (const double logprob : result.logprobs) sum += logprob;
      EXPECT_EQ(result.logprobs.size(), result.ids.size());
      EXPECT_NEAR(result.score.value(), sum / n, 1e-12);
      const bool eos = result.ids.back() == 7 || result.ids.back() == 30 || result.ids.back() == 61;
      EXPECT_EQ(result.finish_reason, eos ? FinishReason::kEos : FinishReason::kLength);
    }
    EXPECT_TRUE(std::is_sorted(results.begin(), results.end(),
                               [](const auto& a, const auto& b) { return *a.score > *b.score; }));
  }
  for (const DType dtype : {DType::f16, DType::bf16, DType::i8})
    EXPECT_EQ(all(model, {.max_new_tokens = 20, .num_beams = 3, .logprobs = 0, .kv_cache_dtype = dtype})[0]
                  .logprobs.size(),
              20u);
}

TEST(BeamGeneration, ABatchGivesWhatItsPromptsGiveAlone) {
  const Model model = tiny_model();
  const std::vector<Ids> prompts = {{1}, kPrompt, {9, 2, 6, 5, 3, 5, 8, 9}};
  for (const bool do_sample : {false, true}) {
    const GenerateOptions options{.max_new_tokens = 12,
                                  .do_sample = do_sample,
                                  .num_return_sequences = 2,
                                  .num_beams = 3,
                                  .seed = 5,
                                  .logprobs = 0};
    const auto together = Generator(model).generate(prompts, options);
    ASSERT_EQ(together.size(), 6u);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto alone = all(model, options, prompts[i]);
      for (std::size_t r = 0; r < 2; ++r) {
        EXPECT_EQ(together[2 * i + r].prompt_ids, prompts[i]);
        EXPECT_EQ(together[2 * i + r].ids, alone[r].ids);
        EXPECT_EQ(together[2 * i + r].score, alone[r].score);
        EXPECT_EQ(together[2 * i + r].text, alone[r].text);
      }
    }
  }
}

TEST(BeamGeneration, ProcessorsWorkOnLogProbabilities) {
  const Model model = tiny_model();
  const auto banned = all(model, {.max_new_tokens = 8, .num_beams = 3})[0].ids;
  const auto results =
      all(model, {.max_new_tokens = 8, .num_return_sequences = 3, .num_beams = 3, .suppress_tokens = banned});
  for (const GenerateResult& result : results)
    for (const TokenId id : result.ids) EXPECT_EQ(std::count(banned.begin(), banned.end(), id), 0);
  GenerateOptions options{.max_new_tokens = 1, .num_beams = 2};
  double mass = 0.0;
  options.logits_processor = [&mass](std::span<double> scores, const DecodingStep&) {
    mass = 0.0;
    for (const double score : scores) mass += std::exp(score);
  };
  all(model, options);
  EXPECT_NEAR(mass, 1.0, kLogProbError);
}

TEST(BeamGeneration, WhatProcessorsLeaveNoTokenEndsWithoutAResult) {
  const Model model = tiny_model();
  GenerateOptions options{
      .max_new_tokens = 3, .num_return_sequences = 2, .num_beams = 2, .eos_token_id = Ids{9}};
  options.prefix_allowed_tokens_fn = [](std::size_t, std::span<const TokenId>) { return Ids{9}; };
  const auto results = all(model, options);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].ids, Ids{9});
  options.logits_processor = [](std::span<double> scores, const DecodingStep&) {
    std::fill(scores.begin(), scores.end(), -kInf);
  };
  expect_error<NumericError>([&] { all(model, options); }, {"no token to any beam"});
}

TEST(BeamGeneration, DrawsDependOnSeedAndStreamAlone) {
  const Model model = tiny_model();
  const auto ids = [&](std::uint64_t seed, std::uint64_t stream) {
    return all(model, {.max_new_tokens = 10,
                       .do_sample = true,
                       .top_k = 0,
                       .num_beams = 3,
                       .seed = seed,
                       .stream = stream})[0]
        .ids;
  };
  EXPECT_EQ(ids(1, 0), ids(1, 0));
  EXPECT_NE(ids(1, 0), ids(2, 0));
  EXPECT_NE(ids(1, 0), ids(1, 1));
  // Filters leave two tokens at least, so that beams can go on: top_k = 1 alone would leave one of each beam.
  const auto results = all(
      model, {.max_new_tokens = 1, .do_sample = true, .top_k = 1, .num_return_sequences = 2, .num_beams = 2});
  auto best = log_probs_after(model, kPrompt);
  const auto first = std::max_element(best.begin(), best.end()) - best.begin();
  best[static_cast<std::size_t>(first)] = -kInf;
  const auto second = std::max_element(best.begin(), best.end()) - best.begin();
  EXPECT_THAT(results[0].ids, ElementsAreArray({first}));
  EXPECT_THAT(results[1].ids, ElementsAreArray({second}));
}

// One beam to a group: each is greedy, on log-probabilities less the penalty for what the groups before it chose at that place.
TEST(BeamGeneration, GroupsOfOneBeamAreGreedyApartFromOneAnother) {
  const Model model = tiny_model();
  const double penalty = 1.5;
  const auto results = all(model, {.max_new_tokens = 9,
                                   .num_return_sequences = 3,
                                   .num_beams = 3,
                                   .length_penalty = 0.0,
                                   .num_beam_groups = 3,
                                   .diversity_penalty = penalty});
  std::vector<Ids> tokens(3, kPrompt);
  std::vector<double> sums(3, 0.0);
  for (int step = 0; step < 9; ++step) {
    Ids chosen;
    for (std::size_t g = 0; g < 3; ++g) {
      auto scores = log_probs_after(model, tokens[g]);
      for (const TokenId id : chosen) scores[static_cast<std::size_t>(id)] -= penalty;
      const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
      sums[g] += scores[static_cast<std::size_t>(best)];
      chosen.push_back(static_cast<TokenId>(best));
      tokens[g].push_back(chosen.back());
    }
  }
  std::vector<std::pair<double, Ids>> expected;
  for (std::size_t g = 0; g < 3; ++g)
    expected.emplace_back(sums[g], Ids(tokens[g].begin() + 5, tokens[g].end()));
  std::sort(expected.begin(), expected.end(), std::greater<>());
  EXPECT_NE(expected[0].second, expected[1].second);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(results[i].ids, expected[i].second) << i;
    EXPECT_NEAR(results[i].score.value(), expected[i].first, 9 * kLogProbError);
  }
}

TEST(BeamGeneration, ACancelledSearchGivesWhatItHas) {
  const Model model = tiny_model();
  std::stop_source source;
  GenerateOptions options{
      .max_new_tokens = 20, .num_return_sequences = 2, .num_beams = 2, .stop = source.get_token()};
  int calls = 0;
  options.logits_processor = [&](std::span<double>, const DecodingStep&) {
    if (++calls == 9) source.request_stop();
  };
  const auto results = all(model, options);
  ASSERT_EQ(results.size(), 2u);
  for (const GenerateResult& result : results) {
    EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(result.ids.size(), 4u);
  }
  EXPECT_EQ(calls, 9) << "the step's other beam is not looked at: of many, that takes seconds";
  const auto none = all(model, options);
  ASSERT_EQ(none.size(), 2u);
  EXPECT_TRUE(none[0].ids.empty() && !none[0].score);
  EXPECT_EQ(none[0].finish_reason, FinishReason::kCancelled);
}

// Two beams, and in both steps both are looked at: call 2 n is the last of step n, where it can only be taken whole.
TEST(BeamGeneration, ACancelledStepIsTakenByAllGroupsAndCountedOrByNone) {
  const Model model = tiny_model();
  for (const std::int64_t groups : {1, 2}) {
    for (const int last : {1, 2, 3, 4, 9, 10, 11, 12}) {
      std::stop_source source;
      GenerateOptions options{.max_new_tokens = 20,
                              .num_return_sequences = 2,
                              .num_beams = 2,
                              .num_beam_groups = groups,
                              .eos_token_id = Ids{},
                              .stop = source.get_token()};
      if (groups > 1) options.diversity_penalty = 0.5;
      options.logits_processor = [&, calls = 0](std::span<double>, const DecodingStep&) mutable {
        if (++calls == last) source.request_stop();
      };
      const auto steps = static_cast<std::size_t>(last / 2);
      for (const GenerateResult& result : all(model, options)) {
        SCOPED_TRACE(testing::Message() << groups << " groups, call " << last);
        EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
        EXPECT_EQ(result.ids.size(), steps);
        EXPECT_EQ(result.score.has_value(), steps > 0);
        EXPECT_EQ(result.timing.decode_tokens, steps > 0 ? static_cast<std::int64_t>(steps) - 1 : 0);
      }
    }
  }
}

TEST(BeamGeneration, RefusesWhatDoesNotGoWithIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto refuse = [&](const GenerateOptions& options, const std::vector<std::string_view>& parts) {
    expect_error<UnsupportedError>([&] { generator.check(options); }, {parts[0], "num_beams"});
  };
  refuse({.num_beams = 2, .guidance_scale = 2.0}, {"guidance_scale"});
  refuse({.num_beams = 2, .stop_strings = std::vector<std::string>{"x"}}, {"stop_strings"});
  refuse({.num_beams = 2, .on_token = [](const Piece&) {}}, {"on_token"});
  refuse({.do_sample = true, .mirostat = 2, .num_beams = 2}, {"mirostat"});
  refuse({.do_sample = true, .typical_p = 0.5, .num_beams = 2}, {"typical_p"});
  expect_error<UnsupportedError>([&] { generator.stream(kPrompt, {.num_beams = 2}); },
                                 {"num_beams is 2", "stream"});
  EXPECT_FALSE(generator.streams({.num_beams = 2}));
  EXPECT_TRUE(generator.streams({}));

  const auto wrong = [&](const GenerateOptions& options, std::string_view part, std::string_view other) {
    expect_error<ArgumentError>([&] { generator.check(options); }, {part, other});
  };
  wrong({.num_beams = 0}, "num_beams is 0", "expected 1 to 65536");
  wrong({.num_beams = 65537}, "num_beams is 65537", "expected 1 to 65536");
  wrong({.num_beams = 2, .length_penalty = kInf}, "length_penalty is inf", "finite");
  wrong({.length_penalty = 2.0}, "length_penalty is set", "num_beams is off");
  wrong({.early_stopping = EarlyStopping::kTrue}, "early_stopping is set", "num_beams is off");
  wrong({.num_return_sequences = 3, .num_beams = 2}, "num_return_sequences is 3", "num_beams 2");
  wrong({.num_beam_groups = 2}, "num_beam_groups is set", "num_beams is off");
  wrong({.num_beams = 2, .diversity_penalty = 1.0}, "diversity_penalty is set", "num_beam_groups is off");
  wrong({.num_beams = 4, .num_beam_groups = 3, .diversity_penalty = 1.0}, "num_beam_groups is 3",
        "divisor of num_beams = 4");
  wrong({.num_beams = 4, .num_beam_groups = 2}, "num_beam_groups is 2", "diversity_penalty");
  wrong({.do_sample = true, .num_beams = 4, .num_beam_groups = 2, .diversity_penalty = 1.0},
        "num_beam_groups is 2", "do_sample");
}

TEST(BeamGeneration, TheCheckpointsSettingsCount) {
  const Model model =
      tiny_model(test::endless_config(),
                 R"({"num_beams": 3, "length_penalty": 2.0, "early_stopping": "never", "max_new_tokens": 6,
                                     "num_return_sequences": 2, "eos_token_id": 7})");
  const auto expected = all(tiny_model(), {.max_new_tokens = 6,
                                           .num_return_sequences = 2,
                                           .num_beams = 3,
                                           .length_penalty = 2.0,
                                           .early_stopping = EarlyStopping::kNever,
                                           .eos_token_id = Ids{7}});
  const auto found = all(model, {});
  ASSERT_EQ(found.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(found[i].ids, expected[i].ids);
    EXPECT_EQ(found[i].score, expected[i].score);
  }
  expect_error<ArgumentError>([&] { Generator(model).generate(kPrompt); },
                              {"num_return_sequences is 2", "list of prompts"});
  const Model wrong = tiny_model(test::endless_config(), R"({"early_stopping": "sometimes"})");
  expect_error<FormatError>([&] { Generator{wrong}; },
                            {"generation_config.json", "early_stopping", "\"never\""});
}

// Sequence r of a prompt, when drawn, against the same stream alone.
TEST(ReturnSequences, AreWhatEachGivesAloneWithItsStream) {
  const Model model = tiny_model();
  const Generator generator(model);
  const std::vector<Ids> prompts = {kPrompt, {2}, {8, 8}};
  for (const bool guided : {false, true}) {
    GenerateOptions options{.max_new_tokens = 14,
                            .do_sample = true,
                            .mirostat = 2,  // remembers something of every sequence
                            .num_return_sequences = 4,
                            .seed = 11,
                            .stream = 3,
                            .eos_token_id = Ids{7, 30},
                            .logprobs = 2};
    if (guided) {
      options.guidance_scale = 2.0;
      options.negative_prompt_ids = Ids{9, 2, 6};
    }
    const auto results = generator.generate(prompts, options);
    ASSERT_EQ(results.size(), 12u);
    options.num_return_sequences.reset();
    for (std::size_t i = 0; i < results.size(); ++i) {
      options.stream = 3 + i % 4;
      const GenerateResult alone = generator.generate(prompts[i / 4], options);
      EXPECT_EQ(results[i].prompt_ids, prompts[i / 4]);
      EXPECT_EQ(results[i].ids, alone.ids) << i;
      EXPECT_EQ(results[i].text, alone.text);
      EXPECT_EQ(results[i].finish_reason, alone.finish_reason);
      EXPECT_FALSE(results[i].score);
      EXPECT_EQ(results[i].timing.prefill_tokens, alone.timing.prefill_tokens);
      EXPECT_EQ(results[i].timing.decode_tokens, alone.timing.decode_tokens);
      ASSERT_EQ(results[i].logprobs.size(), alone.logprobs.size());
      EXPECT_EQ(std::memcmp(results[i].logprobs.data(), alone.logprobs.data(),
                            alone.logprobs.size() * sizeof(double)),
                0);
    }
    EXPECT_NE(results[0].ids, results[1].ids);
  }
}

TEST(ReturnSequences, PiecesTellTheResultAndProcessorsThePrompt) {
  const Model model = tiny_model();
  const std::vector<Ids> prompts = {kPrompt, {2}};
  std::vector<Ids> seen(6);
  std::map<std::size_t, int> asked;
  GenerateOptions options{.max_new_tokens = 3, .do_sample = true, .num_return_sequences = 3};
  options.on_token = [&seen](const Piece& piece) { seen.at(piece.sequence).push_back(piece.id); };
  options.logits_processor = [&asked](std::span<double>, const DecodingStep& step) {
    ++asked[step.sequence];
  };
  const auto results = Generator(model).generate(prompts, options);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(seen[i], results[i].ids) << i;
  EXPECT_EQ(asked, (std::map<std::size_t, int>{{0, 9}, {1, 9}}));
}

TEST(ReturnSequences, EndTogetherWhenTheCallerStops) {
  const Model model = tiny_model();
  std::stop_source source;
  GenerateOptions options{.do_sample = true, .num_return_sequences = 3, .stop = source.get_token()};
  options.on_token = [&, count = 0](const Piece&) mutable {
    if (++count == 4) source.request_stop();  // the first of the second step
  };
  const auto results = all(model, options);
  ASSERT_EQ(results.size(), 3u);
  for (const GenerateResult& result : results) {
    EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(result.ids.size(), 2u);
  }
}

TEST(ReturnSequences, RefusesMoreThanThereAre) {
  const Model model = tiny_model();
  const Generator generator(model);
  expect_error<ArgumentError>([&] { generator.check({.num_return_sequences = 2}); },
                              {"num_return_sequences is 2", "do_sample"});
  expect_error<ArgumentError>([&] { generator.check({.num_return_sequences = 0}); },
                              {"num_return_sequences is 0"});
  expect_error<ArgumentError>(
      [&] { generator.stream(kPrompt, {.do_sample = true, .num_return_sequences = 2}); },
      {"num_return_sequences is 2"});
}

}  // namespace
}  // namespace gpt
