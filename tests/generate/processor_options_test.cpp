// How the options become logits processors: which, in what order, from where, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/logits_processors.h"
#include "gpt/generate/sampler.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kPrompt;
using test::tiny_model;
using test::with_file;
using Ids = std::vector<TokenId>;

std::vector<float> logits_after(const Model& model, const Ids& ids) {
  Arena arena;
  nn::KvCache cache = model.network().make_cache();
  const Chunk chunk{.ids = ids, .cache = &cache};
  const ForwardOutput output = model.network().forward(std::span(&chunk, 1), arena);
  const auto row = ConstTensorView(output.logits).span<float>();
  return {row.begin(), row.end()};
}

Ids generate(const Model& model, const GenerateOptions& options, const Ids& prompt = kPrompt) {
  return Generator(model).generate(prompt, options).ids;
}

// What a sampler with these processors generates, one forward pass of the whole sequence a token.
Ids by_hand(const Model& model, LogitsProcessors processors, std::optional<CounterRng> rng,
            std::size_t count) {
  Sampler sampler(std::move(processors), rng);
  std::vector<double> state = sampler.initial_state();
  Ids tokens = kPrompt;
  while (tokens.size() < kPrompt.size() + count) {
    const DecodingStep step{
        .history = tokens, .prompt_length = kPrompt.size(), .max_length = kPrompt.size() + count};
    tokens.push_back(sampler.next(logits_after(model, tokens), step, state));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(kPrompt.size()), tokens.end()};
}

template <class P, class... Arguments>
void add(LogitsProcessors& list, Arguments&&... arguments) {
  list.push_back(std::make_unique<P>(std::forward<Arguments>(arguments)...));
}

// Everything at once, with values that leave every processor something to do.
GenerateOptions everything() {
  GenerateOptions options{.max_new_tokens = 24,
                          .min_new_tokens = 6,
                          .do_sample = true,
                          .temperature = 2.5,
                          .dynatemp_range = 1.0,
                          .dynatemp_exponent = 1.5,
                          .top_n_sigma = 2.5,
                          .top_k = 60,
                          .top_p = 0.95,
                          .min_p = 0.01,
                          .typical_p = 0.9,
                          .epsilon_cutoff = 0.002,
                          .eta_cutoff = 0.003,
                          .xtc_probability = 0.5,
                          .xtc_threshold = 0.02,
                          .repetition_penalty = 1.3,
                          .frequency_penalty = 0.2,
                          .presence_penalty = 0.1,
                          .dry_multiplier = 0.8,
                          .dry_base = 1.5,
                          .dry_allowed_length = 1,
                          .dry_penalty_last_n = 12,
                          .dry_sequence_breakers = std::vector<std::string>{"e"},
                          .exponential_decay_length_penalty = ExponentialDecay{4, 1.2},
                          .no_repeat_ngram_size = 2,
                          .suppress_tokens = Ids{7, 8},
                          .begin_suppress_tokens = Ids{9, 10, 11},
                          .forced_bos_token_id = 12,
                          .forced_eos_token_id = Ids{13},
                          .renormalize_logits = true,
                          .seed = 5,
                          .eos_token_id = Ids{13}};
  options.sequence_bias = std::vector<BiasedSequence>{{{20}, 1.5}, {{20, 21}, 4.0}};
  options.logit_bias = std::map<TokenId, double>{{22, 1.0}, {23, -3.0}};
  options.bad_words_ids = std::vector<Ids>{{24}, {20, 25}, {13}};
  options.prefix_allowed_tokens_fn = [](std::size_t, std::span<const TokenId> tokens) {
    Ids allowed;
    for (TokenId id = 0; id < 97; ++id) {
      if ((id + static_cast<TokenId>(tokens.size())) % 9 != 0) allowed.push_back(id);
    }
    return allowed;
  };
  options.logits_processor = [](std::span<double> scores, const DecodingStep& step) {
    scores[step.history.size()] += 0.5;
  };
  return options;
}

// The tokens that hold an "e": "e", "the " and "<end>".
const std::vector<Ids> kBreakers = {{4}, {94}, {96}};

LogitsProcessors all_processors(const GenerateOptions& o) {
  LogitsProcessors list;
  add<SequenceBias>(list, *o.sequence_bias);
  add<SequenceBias>(list, std::vector<BiasedSequence>{{{22}, 1.0}, {{23}, -3.0}});
  add<RepetitionPenalty>(list, 1.3);
  add<FrequencyPenalty>(list, 0.2, 0.1);
  add<Dry>(list, Dry::Options{.multiplier = 0.8,
                              .base = 1.5,
                              .allowed_length = 1,
                              .penalty_last_n = 12,
                              .sequence_breakers = kBreakers});
  add<NoRepeatNGram>(list, 2);
  add<NoBadWords>(list, *o.bad_words_ids, Ids{13});
  add<MinNewTokens>(list, 6, Ids{13});
  add<PrefixConstrained>(list, o.prefix_allowed_tokens_fn);
  add<ForcedBos>(list, 12);
  add<ForcedEos>(list, Ids{13});
  add<ExponentialDecayLengthPenalty>(list, ExponentialDecay{4, 1.2}, Ids{13});
  add<SuppressTokens>(list, Ids{7, 8});
  add<BeginSuppressTokens>(list, Ids{9, 10, 11}, true);
  add<FunctionProcessor>(list, o.logits_processor);
  add<DynamicTemperature>(list, 2.5, 1.0, 1.5);
  add<TopNSigma>(list, 2.5);
  add<TopK>(list, 60);
  add<TopP>(list, 0.95);
  add<MinP>(list, 0.01);
  add<TypicalP>(list, 0.9);
  add<EpsilonCutoff>(list, 0.002);
  add<EtaCutoff>(list, 0.003);
  add<Xtc>(list, 0.5, 0.02);
  add<Renormalize>(list);
  return list;
}

TEST(ProcessorOptions, AllWorkTogetherInTransformersOrder) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = tiny_model();
  GenerateOptions options = everything();
  std::size_t ended = 0;
  for (options.seed = 0; options.seed < 40; ++options.seed) {
    const Ids found = generate(model, options);
    Ids expected = by_hand(model, all_processors(options), CounterRng(options.seed), 24);
    const auto end = std::find(expected.begin(), expected.end(), 13);
    ASSERT_NE(end, expected.end());  // forced for the last place
    ended += end + 1 != expected.end();
    expected.erase(end + 1, expected.end());
    EXPECT_EQ(found, expected) << options.seed;
  }
  EXPECT_GT(ended, 0u) << "the test has not met what it is about";
}

// Two of the filters: the library's tokens are those of the two in this order, and not in the other.
template <class First, class Second>
void expect_order(const GenerateOptions& options, const First& first, const Second& second) {
  const Model model = tiny_model();
  int differ = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    GenerateOptions seeded = options;
    seeded.max_new_tokens = 20;
    seeded.do_sample = true;
    seeded.seed = seed;
    if (!seeded.top_k) seeded.top_k = 0;
    LogitsProcessors in_order, reversed;
    add<First>(in_order, first);
    add<Second>(in_order, second);
    add<Second>(reversed, second);
    add<First>(reversed, first);
    const Ids found = generate(model, seeded);
    EXPECT_EQ(found, by_hand(model, std::move(in_order), CounterRng(seed), 20)) << seed;
    differ += found != by_hand(model, std::move(reversed), CounterRng(seed), 20);
  }
  EXPECT_GT(differ, 0) << "in any order the same";
}

TEST(ProcessorOptions, EveryFilterHasItsPlace) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  expect_order({.temperature = 2.0, .top_p = 0.5}, Temperature(2.0), TopP(0.5));
  expect_order({.dynatemp_range = 0.9, .min_p = 0.2}, DynamicTemperature(1.0, 0.9, 1.0), MinP(0.2));
  expect_order({.top_n_sigma = 0.8, .top_k = 12}, TopNSigma(0.8), TopK(12));
  expect_order({.top_k = 12, .top_p = 0.5}, TopK(12), TopP(0.5));
  expect_order({.top_p = 0.5, .min_p = 0.4}, TopP(0.5), MinP(0.4));
  expect_order({.min_p = 0.4, .typical_p = 0.4}, MinP(0.4), TypicalP(0.4));
  expect_order({.typical_p = 0.4, .epsilon_cutoff = 0.02}, TypicalP(0.4), EpsilonCutoff(0.02));
  expect_order({.epsilon_cutoff = 0.02, .eta_cutoff = 0.5}, EpsilonCutoff(0.02), EtaCutoff(0.5));
  expect_order({.eta_cutoff = 0.5, .xtc_probability = 1.0, .xtc_threshold = 0.025}, EtaCutoff(0.5),
               Xtc(1.0, 0.025));
}

TEST(ProcessorOptions, GreedyUsesAllThatAreNoFilters) {
  const Model model = tiny_model();
  GenerateOptions options{.max_new_tokens = 20, .repetition_penalty = 5.0, .presence_penalty = -0.5};
  options.suppress_tokens = Ids{generate(model, {.max_new_tokens = 1})};
  LogitsProcessors list;
  add<RepetitionPenalty>(list, 5.0);
  add<FrequencyPenalty>(list, 0.0, -0.5);
  add<SuppressTokens>(list, *options.suppress_tokens);
  EXPECT_EQ(generate(model, options), by_hand(model, std::move(list), std::nullopt, 20));
}

TEST(ProcessorOptions, TheUsersFunctionStandsBetweenConstraintsAndTemperature) {
  const Model model = tiny_model();
  const std::vector<float> logits = logits_after(model, kPrompt);
  std::vector<double> seen;
  std::size_t prompt_length = 0, max_length = 0;
  GenerateOptions options{
      .max_new_tokens = 1, .do_sample = true, .temperature = 0.25, .top_k = 3, .suppress_tokens = Ids{6}};
  options.logits_processor = [&](std::span<double> scores, const DecodingStep& step) {
    seen.assign(scores.begin(), scores.end());
    prompt_length = step.prompt_length;
    max_length = step.max_length;
    EXPECT_NE(step.rng, nullptr);
    std::fill(scores.begin(), scores.end(), -std::numeric_limits<double>::infinity());
    scores[42] = 0.0;
  };
  EXPECT_EQ(generate(model, options), Ids{42});
  std::vector<double> expected(logits.begin(), logits.end());
  expected[6] = -std::numeric_limits<double>::infinity();
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(prompt_length, kPrompt.size());
  EXPECT_EQ(max_length, kPrompt.size() + 1);
}

TEST(ProcessorOptions, WhatAUsersFunctionThrowsReachesTheCaller) {
  const Model model = tiny_model();
  GenerateOptions options{.max_new_tokens = 1};
  options.logits_processor = [](std::span<double>, const DecodingStep&) { throw std::runtime_error("mine"); };
  EXPECT_THROW(generate(model, options), std::runtime_error);
  options.logits_processor = [](std::span<double> scores, const DecodingStep&) {
    std::fill(scores.begin(), scores.end(), -std::numeric_limits<double>::infinity());
  };
  expect_error<NumericError>([&] { generate(model, options); }, {"leave no token", "position 5"});
}

TEST(ProcessorOptions, MinimumLengthsDelayTheEnd) {
  const Model model = tiny_model();
  GenerateOptions options{.max_new_tokens = 10};
  options.eos_token_id = Ids{generate(model, options)};  // the first token would end it
  EXPECT_EQ(generate(model, options).size(), 1u);
  // Never before the minimum; then as soon as the network wants it.
  for (const std::int64_t minimum : {2, 5, 10}) {
    options.min_new_tokens = minimum;
    EXPECT_GE(generate(model, options).size(), static_cast<std::size_t>(minimum));
    options.min_new_tokens.reset();
    options.min_length = minimum + 5;  // with the prompt
    const Ids by_length = generate(model, options);
    options.min_length.reset();
    options.min_new_tokens = minimum;
    EXPECT_EQ(by_length, generate(model, options));
    options.min_length.reset();
  }
}

TEST(ProcessorOptions, ForcedTokensComeWhereTheyMust) {
  const Model model = tiny_model();
  const GenerateOptions options{
      .max_new_tokens = 6, .forced_bos_token_id = 33, .forced_eos_token_id = Ids{44}};
  const Ids after_one = generate(model, options, {5});
  EXPECT_EQ(after_one.front(), 33);
  EXPECT_EQ(after_one.back(), 44);
  EXPECT_EQ(generate(model, options).back(), 44);
  EXPECT_NE(generate(model, options).front(), 33);  // after a longer prompt
}

TEST(ProcessorOptions, ABatchGivesWhatItsPromptsGiveAlone) {
  const Model model = tiny_model();
  const Generator generator(model);
  std::vector<Ids> prompts;
  for (int i = 0; i < 28; ++i) {
    auto& prompt = prompts.emplace_back();
    for (int j = 0; j <= i / 4; ++j) prompt.push_back((17 * i + 29 * j) % 97);
  }
  GenerateOptions mirostat{.max_new_tokens = 20,
                           .do_sample = true,
                           .temperature = 1.5,
                           .mirostat = 2,
                           .mirostat_tau = 3.0,
                           .dry_multiplier = 0.5,
                           .seed = 9,
                           .logprobs = 0};
  for (GenerateOptions options : {everything(), mirostat}) {
    options.logprobs = 0;
    const auto results = generator.generate(prompts, options);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const GenerateResult alone = generator.generate(prompts[i], options);
      EXPECT_EQ(results[i].ids, alone.ids) << i;
      ASSERT_EQ(results[i].logprobs.size(), alone.logprobs.size());
      EXPECT_EQ(std::memcmp(results[i].logprobs.data(), alone.logprobs.data(),
                            alone.logprobs.size() * sizeof(double)),
                0)
          << i;
    }
  }
}

TEST(ProcessorOptions, MirostatControlsTheSurpriseOfWhatItDraws) {
  const Model model = tiny_model();
  LogitsProcessors list;
  add<Temperature>(list, 3.0);
  add<Mirostat>(list, 2.0, 0.3);
  const GenerateOptions options{.max_new_tokens = 27,
                                .do_sample = true,
                                .temperature = 3.0,
                                .mirostat = 2,
                                .mirostat_tau = 2.0,
                                .mirostat_eta = 0.3,
                                .seed = 4};
  EXPECT_EQ(generate(model, options), by_hand(model, std::move(list), CounterRng(4), 27));
}

TEST(ProcessorOptions, MirostatTakesTheFiltersPlace) {
  const Model model = tiny_model();
  const GenerateOptions options{.max_new_tokens = 20, .do_sample = true, .mirostat = 2};
  // A file's filters do not count then; the caller's are an error, wherever mirostat comes from.
  EXPECT_EQ(generate(with_file(R"({"top_k": 1, "typical_p": 0.1, "xtc_probability": 1.0})"), options),
            generate(model, options));
  EXPECT_EQ(
      generate(with_file(R"({"mirostat": 2, "top_p": 0.1})"), {.max_new_tokens = 20, .do_sample = true}),
      generate(model, options));
  expect_error<ArgumentError>([&] { generate(model, {.do_sample = true, .top_k = 5, .mirostat = 2}); },
                              {"top_k", "mirostat"});
  expect_error<ArgumentError>(
      [&] { generate(with_file(R"({"mirostat": 2})"), {.do_sample = true, .xtc_probability = 0.5}); },
      {"xtc_probability", "mirostat"});
  EXPECT_EQ(generate(with_file(R"({"mirostat": 2})"), {.do_sample = true, .top_k = 5, .mirostat = 0}),
            generate(model, {.do_sample = true, .top_k = 5}));
}

TEST(ProcessorOptions, ComeFromTheFileToo) {
  const Model model = tiny_model();
  const Model from_file =
      with_file(R"({"max_new_tokens": 24, "min_new_tokens": 6, "do_sample": true, "temperature": 2.5,
    "dynatemp_range": 1, "dynatemp_exponent": 1.5, "top_n_sigma": 2.5, "top_k": 60, "top_p": 0.95, "min_p": 0.01,
    "typical_p": 0.9, "epsilon_cutoff": 0.002, "eta_cutoff": 0.003, "xtc_probability": 0.5, "xtc_threshold": 0.02,
    "repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.1, "dry_multiplier": 0.8, "dry_base": 1.5,
    "dry_allowed_length": 1, "dry_penalty_last_n": 12, "dry_sequence_breakers": ["e"],
    "exponential_decay_length_penalty": [4, 1.2], "no_repeat_ngram_size": 2, "suppress_tokens": [7, 8],
    "begin_suppress_tokens": [9, 10, 11], "forced_bos_token_id": 12, "forced_eos_token_id": 13, "renormalize_logits": true,
    "eos_token_id": 13, "sequence_bias": [[[20], 1.5], [[20, 21], 4]], "logit_bias": {"22": 1, "23": -3.0},
    "bad_words_ids": [[24], [20, 25], [13]]})");
  const GenerateOptions all = everything();
  GenerateOptions functions;
  functions.prefix_allowed_tokens_fn = all.prefix_allowed_tokens_fn;
  functions.logits_processor = all.logits_processor;
  for (GenerateOptions* options : {&functions}) {
    for (options->seed = 0; options->seed < 8; ++options->seed) {
      GenerateOptions same = all;
      same.seed = options->seed;
      EXPECT_EQ(generate(from_file, *options), generate(model, same));
    }
  }
  const GenerateOptions guided{.guidance_scale = 3.0};
  EXPECT_EQ(generate(with_file(R"({"guidance_scale": 3})"), {}), generate(model, guided));
  EXPECT_NE(generate(model, guided), generate(model, {}));
  // Empty lists and neutral values of the caller turn a file's off.
  GenerateOptions none{.repetition_penalty = 1.0, .no_repeat_ngram_size = 0, .suppress_tokens = Ids{}};
  none.bad_words_ids.emplace();
  none.logit_bias.emplace();
  EXPECT_EQ(
      generate(
          with_file(R"({"repetition_penalty": 9, "no_repeat_ngram_size": 1, "suppress_tokens": [0, 1, 2, 3],
                                   "bad_words_ids": [[5]], "logit_bias": {"6": 100}})"),
          none),
      generate(model, {}));
}

TEST(ProcessorOptions, OfAFileOfTheWrongFormAreRefusedByName) {
  for (const char* setting : {R"("sequence_bias": {"1": 2.0})",
                              R"("sequence_bias": [[1, 2.0]])",
                              R"("sequence_bias": [[[1], "x"]])",
                              R"("sequence_bias": [[[1.5], 2.0]])",
                              R"("sequence_bias": [[[1]]])",
                              R"("sequence_bias": [[[], 1.0]])",
                              R"("logit_bias": [1])",
                              R"("logit_bias": {"one": 1.0})",
                              R"("logit_bias": {"1": "x"})",
                              R"("logit_bias": {"1": 1, "01": 2})",
                              R"("bad_words_ids": [1])",
                              R"("bad_words_ids": [[]])",
                              R"("bad_words_ids": [["a"]])",
                              R"("exponential_decay_length_penalty": 5)",
                              R"("exponential_decay_length_penalty": [5])",
                              R"("exponential_decay_length_penalty": [1.5, 2])",
                              R"("suppress_tokens": [5000000000])",
                              R"("suppress_tokens": [97])",
                              R"("forced_bos_token_id": -1)",
                              R"("bad_words_ids": [[1, 97]])",
                              R"("logit_bias": {"97": 1.0})",
                              R"("min_length": -1)",
                              R"("typical_p": 0)",
                              R"("mirostat": 1)",
                              R"("dry_sequence_breakers": [""])"}) {
    const std::string key = std::string(setting).substr(1, std::string(setting).find(':') - 2);
    const Model model = with_file(std::string("{") + setting + "}");
    expect_error<FormatError>([&] { const Generator generator(model); }, {"generation_config.json", key});
  }
}

TEST(ProcessorOptions, NeedDoSampleIfTheyAreFilters) {
  const Model model = tiny_model();
  const auto refuses = [&](const char* name, const std::function<void(GenerateOptions&)>& set) {
    GenerateOptions options;
    set(options);
    expect_error<ArgumentError>([&] { generate(model, options); }, {name, "do_sample"});
  };
  refuses("dynatemp_range", [](auto& o) { o.dynatemp_range = 0.5; });
  refuses("dynatemp_exponent", [](auto& o) { o.dynatemp_exponent = 1.0; });
  refuses("top_n_sigma", [](auto& o) { o.top_n_sigma = 1.0; });
  refuses("typical_p", [](auto& o) { o.typical_p = 0.5; });
  refuses("epsilon_cutoff", [](auto& o) { o.epsilon_cutoff = 0.5; });
  refuses("eta_cutoff", [](auto& o) { o.eta_cutoff = 0.5; });
  refuses("xtc_probability", [](auto& o) { o.xtc_probability = 0.5; });
  refuses("xtc_threshold", [](auto& o) { o.xtc_threshold = 0.5; });
  refuses("mirostat", [](auto& o) { o.mirostat = 2; });
  refuses("mirostat_tau", [](auto& o) { o.mirostat_tau = 2.0; });
  refuses("mirostat_eta", [](auto& o) { o.mirostat_eta = 2.0; });
}

TEST(ProcessorOptions, OfAnotherThatIsOffAreRefused) {
  const Model model = tiny_model();
  const auto refuses = [&](const char* name, const char* other,
                           const std::function<void(GenerateOptions&)>& set) {
    GenerateOptions options{.do_sample = true};
    set(options);
    expect_error<ArgumentError>([&] { generate(model, options); }, {name, std::string(other) + " is off"});
  };
  refuses("dynatemp_exponent", "dynatemp_range", [](auto& o) { o.dynatemp_exponent = 2.0; });
  refuses("xtc_threshold", "xtc_probability", [](auto& o) { o.xtc_threshold = 0.2; });
  refuses("mirostat_tau", "mirostat", [](auto& o) { o.mirostat_tau = 2.0; });
  refuses("mirostat_eta", "mirostat", [](auto& o) { o.mirostat_eta = 2.0; });
  refuses("dry_base", "dry_multiplier", [](auto& o) { o.dry_base = 2.0; });
  refuses("dry_allowed_length", "dry_multiplier", [](auto& o) { o.dry_allowed_length = 2; });
  refuses("dry_penalty_last_n", "dry_multiplier", [](auto& o) { o.dry_penalty_last_n = 2; });
  refuses("dry_sequence_breakers", "dry_multiplier", [](auto& o) { o.dry_sequence_breakers.emplace(); });
  EXPECT_NO_THROW(
      generate(with_file(R"({"xtc_probability": 0.5})"), {.do_sample = true, .xtc_threshold = 0.2}));
  EXPECT_NO_THROW(generate(with_file(R"({"xtc_threshold": 0.2})"), {.do_sample = true}));  // a file may
}

TEST(ProcessorOptions, ThatContradictEachOtherOrTheModelAreRefused) {
  const Model model = tiny_model();
  expect_error<ArgumentError>([&] { generate(model, {.min_length = 3, .min_new_tokens = 3}); },
                              {"min_length", "min_new_tokens"});
  expect_error<ArgumentError>([&] { generate(model, {.max_new_tokens = 3, .min_new_tokens = 4}); },
                              {"min_new_tokens is 4", "max_new_tokens 3"});
  expect_error<ArgumentError>([&] { generate(model, {.max_length = 9, .min_length = 10}); },
                              {"min_length is 10", "max_length 9"});
  expect_error<ArgumentError>(
      [&] {
        generate(model, {.exponential_decay_length_penalty = ExponentialDecay{1, 1.1}});
      },
      {"exponential_decay_length_penalty", "eos_token_id"});
  expect_error<ArgumentError>([&] { generate(model, {.suppress_tokens = Ids{97}}); },
                              {"suppress_tokens", "97", "[0, 97)"});
  expect_error<ArgumentError>([&] { generate(model, {.forced_bos_token_id = -1}); }, {"forced_bos_token_id"});
  GenerateOptions options;
  options.logit_bias = std::map<TokenId, double>{{97, 1.0}};
  expect_error<ArgumentError>([&] { generate(model, options); }, {"logit_bias", "97"});
  options.logit_bias = std::map<TokenId, double>{{1, std::nan("")}};
  expect_error<ArgumentError>([&] { generate(model, options); }, {"logit_bias", "nan"});
  expect_error<ArgumentError>([&] { generate(model, {.do_sample = true, .mirostat = 1}); },
                              {"mirostat is 1", "0 (off) or 2"});
  const Model plain = test::tiny_model_without_tokenizer();
  expect_error<UnsupportedError>(
      [&] {
        generate(plain, {.dry_multiplier = 1.0, .dry_sequence_breakers = std::vector<std::string>{"x"}});
      },
      {"dry_sequence_breakers", "tokenizer"});
  EXPECT_NO_THROW(generate(plain, {.dry_multiplier = 1.0}));
}

// With a prompt of 5 tokens.
TEST(ProcessorOptions, AskForNoMoreNewTokensThanThereMayBe) {
  const auto refuses = [](const Model& model, const GenerateOptions& options, const std::string& reason) {
    expect_error<ArgumentError>([&] { generate(model, options); },
                                {concat("min_new_tokens is ", *options.min_new_tokens, ", ", reason)});
  };
  const Model model = tiny_model();
  refuses(model, {.max_length = 8, .min_new_tokens = 4}, "but there are at most 3 new tokens");
  refuses(model, {.max_length = 6, .min_new_tokens = 4}, "but there is at most 1 new token");
  const std::string by_default = "but there are at most 20 new tokens by default";
  refuses(model, {.min_new_tokens = 25}, by_default);
  refuses(with_file(R"({"temperature": 0.5})"), {.min_new_tokens = 25}, by_default);
  refuses(with_file(R"({"max_length": 20})"), {.min_new_tokens = 25}, by_default);  // the same default
  refuses(with_file(R"({"max_new_tokens": 7})"), {.min_new_tokens = 8},
          "but there are at most 7 new tokens of ");
  refuses(with_file(R"({"max_length": 9})"), {.min_new_tokens = 8}, "but there are at most 4 new tokens of ");
  EXPECT_EQ(generate(model, {.min_new_tokens = 20}).size(), 20u);
  EXPECT_NO_THROW(generate(with_file(R"({"min_new_tokens": 9})"), {.max_new_tokens = 3}));  // a file may
}

TEST(ProcessorOptions, AMinLengthIsForPromptsOfAnyLength) {
  const Model model = tiny_model();
  const std::vector<Ids> prompts = {kPrompt, Ids(14, 3)};
  const auto results = Generator(model).generate(prompts, {.max_new_tokens = 8, .min_length = 20});
  for (const GenerateResult& result : results) EXPECT_EQ(result.ids.size(), 8u);
}

TEST(ProcessorOptions, OfAFileWithBothMinimaTheNewTokensCount) {
  const Model model = with_file(R"({"min_length": 25, "min_new_tokens": 2, "eos_token_id": 5})");
  EXPECT_EQ(generate(model, {}), generate(tiny_model(), {.min_new_tokens = 2, .eos_token_id = Ids{5}}));
}

}  // namespace
}  // namespace gpt
