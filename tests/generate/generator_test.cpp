#include "gpt/generate/generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "generate/same_result.h"
#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/generate/sampler.h"
#include "gpt/generate/scheduler.h"
#include "gpt/text/utf8.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/rounding_upward.h"
#include "support/trapping.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kPrompt;
using test::same_bits;
using test::tiny_model;

// The logits after all of `ids`, from a forward pass of their own.
std::vector<float> logits_after(const Model& model, std::span<const TokenId> ids) {
  Arena arena;
  nn::KvCache cache = model.network().make_cache();
  const Chunk chunk{.ids = ids, .cache = &cache};
  const ForwardOutput output = model.network().forward(std::span(&chunk, 1), arena);
  const auto row = ConstTensorView(output.logits).span<float>();
  return {row.begin(), row.end()};
}

GenerateOptions sampling(std::int64_t max_new_tokens, std::uint64_t seed = 0) {
  return {.max_new_tokens = max_new_tokens, .do_sample = true, .top_k = 0, .seed = seed, .logprobs = 3};
}

TEST(Generator, GreedyTakesTheBestTokenOfAFullForwardEachTime) {
  const Model model = tiny_model();
  const GenerateResult result = Generator(model).generate(kPrompt, {.max_new_tokens = 28});
  EXPECT_EQ(result.prompt_ids, kPrompt);
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  std::vector<TokenId> expected = kPrompt;  // the last token stands on position n_positions and is never fed
  while (expected.size() < 33)
    expected.push_back(argmax(std::span<const float>(logits_after(model, expected))));
  EXPECT_EQ(result.ids, std::vector<TokenId>(expected.begin() + 5, expected.end()));
}

TEST(Generator, ATextPromptIsEncoded) {
  const Model model = tiny_model();
  const GenerateResult result = Generator(model).generate("the cat", {.max_new_tokens = 2});
  EXPECT_EQ(result.prompt_ids, (std::vector<TokenId>{94, 2, 0, 19}));
}

TEST(Generator, TextIsTheDecodedIdsWithoutSpecialTokens) {
  const Model model = tiny_model();
  bool broken = false, special = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto options = sampling(27, seed);
    options.temperature = 3.0;
    const GenerateResult result = Generator(model).generate(kPrompt, options);
    const std::string bytes = model.tokenizer().decode(result.ids, {.skip_special_tokens = true});
    EXPECT_EQ(result.text, replace_invalid_utf8(bytes));
    broken |= !is_valid_utf8(bytes);
    special |= std::find(result.ids.begin(), result.ids.end(), 96) != result.ids.end();
  }
  EXPECT_TRUE(broken && special) << "the test has not met what it is about";
}

TEST(Generator, TheEosTokenEndsTheSequenceAndIsPartOfIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const GenerateResult whole = generator.generate(kPrompt, sampling(20));
  auto options = sampling(20);
  options.eos_token_id = {whole.ids[6]};
  const auto end = std::find(whole.ids.begin(), whole.ids.end(), whole.ids[6]) + 1;
  const GenerateResult result = generator.generate(kPrompt, options);
  EXPECT_EQ(result.ids, std::vector<TokenId>(whole.ids.begin(), end));
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
}

TEST(Generator, AStopStringEndsTheSequenceAndIsPartOfIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const GenerateResult whole = generator.generate(kPrompt, sampling(20));
  // A string that begins in the sixth token and ends in the seventh or, if that has no bytes, later.
  std::string bytes;
  std::size_t end = 5;
  while (bytes.size() < 2) bytes += model.tokenizer().bytes_of(whole.ids[end++]);
  auto options = sampling(20);
  options.stop_strings = std::vector<std::string>{"never this", bytes};
  const GenerateResult result = generator.generate(kPrompt, options);
  EXPECT_EQ(result.finish_reason, FinishReason::kStopString);
  EXPECT_LE(result.ids.size(), end);
  EXPECT_TRUE(std::equal(result.ids.begin(), result.ids.end(), whole.ids.begin()));
  EXPECT_TRUE(model.tokenizer().decode(result.ids).find(bytes) != std::string::npos);
}

TEST(Generator, AStopStringMayBeginInThePromptButNotLieInIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const GenerateResult whole = generator.generate("abc", {.max_new_tokens = 5});
  const std::string first(model.tokenizer().bytes_of(whole.ids[0]));
  ASSERT_FALSE(first.empty());
  const auto stop_at = [&](const std::string& text) {
    return generator.generate("abc", {.max_new_tokens = 5, .stop_strings = std::vector<std::string>{text}});
  };
  EXPECT_EQ(stop_at("bc" + first).ids.size(), 1u);
  EXPECT_EQ(stop_at("abc").ids.size(), 5u);
}

TEST(Generator, EqualSeedsGiveEqualTokensAndOtherSeedsOthers) {
  const Model model = tiny_model();
  const Generator generator(model);
  EXPECT_EQ(generator.generate(kPrompt, sampling(20, 7)).ids,
            generator.generate(kPrompt, sampling(20, 7)).ids);
  EXPECT_NE(generator.generate(kPrompt, sampling(20, 7)).ids,
            generator.generate(kPrompt, sampling(20, 8)).ids);
}

TEST(Generator, ADrawDependsOnThePositionNotOnWhereThePromptEnds) {
  const Model model = tiny_model();
  const Generator generator(model);
  const GenerateResult whole = generator.generate(kPrompt, sampling(20));
  std::vector<TokenId> longer = kPrompt;
  longer.insert(longer.end(), whole.ids.begin(), whole.ids.begin() + 8);
  const GenerateResult rest = generator.generate(longer, sampling(12));
  EXPECT_EQ(rest.ids, std::vector<TokenId>(whole.ids.begin() + 8, whole.ids.end()));
  EXPECT_TRUE(same_bits(rest.logprobs, {whole.logprobs.begin() + 8, whole.logprobs.end()}));
}

TEST(Generator, ABatchGivesWhatItsPromptsGiveAlone) {
  const Model model = tiny_model();
  const Generator generator(model);
  std::vector<std::vector<TokenId>> prompts;  // 434 tokens: more than one pass takes
  for (int i = 0; i < 28; ++i) {
    auto& prompt = prompts.emplace_back();
    for (int j = 0; j <= i; ++j) prompt.push_back((17 * i + 29 * j) % 97);
  }
  auto options = sampling(4);
  options.eos_token_id = generator.generate(prompts[9], options).ids;
  options.eos_token_id->resize(2);  // so that some sequences end early
  const auto results = generator.generate(prompts, options);
  ASSERT_EQ(results.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    SCOPED_TRACE(i);
    const GenerateResult alone = generator.generate(prompts[i], options);
    EXPECT_EQ(results[i].prompt_ids, prompts[i]);
    EXPECT_EQ(results[i].ids, alone.ids);
    EXPECT_EQ(results[i].text, alone.text);
    EXPECT_EQ(results[i].finish_reason, alone.finish_reason);
    EXPECT_TRUE(same_bits(results[i].logprobs, alone.logprobs));
  }
  EXPECT_EQ(results[9].finish_reason, FinishReason::kEos);
}

TEST(Generator, AnEmptyBatchGivesNoResults) {
  const Model model = tiny_model();
  EXPECT_TRUE(Generator(model).generate(std::span<const std::vector<TokenId>>()).empty());
}

TEST(Generator, ThreadsDoNotChangeTheBits) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  // Tiny networks give a second thread nothing to do; this one's prefill does.
  const Model model = Model::load(GPT_SOURCE_DIR "/examples/models/demo");
  const Generator generator(model);
  const std::vector<TokenId> prompt(100, 40);
  auto options = sampling(27);
  options.num_threads = 1;
  const GenerateResult one = generator.generate(prompt, options);
  options.num_threads = 2;
  const GenerateResult two = generator.generate(prompt, options);
  EXPECT_EQ(one.ids, two.ids);
  EXPECT_TRUE(same_bits(one.logprobs, two.logprobs));
}

TEST(Generator, TheHostsRoundingDoesNotChangeTheBits) {
  const auto run = [] {
    const Model model = Model::load(GPT_SOURCE_DIR "/examples/models/demo");
    return Generator(model).generate(kPrompt, sampling(20));
  };
  const GenerateResult plain = run();
  const test::RoundingUpward host;
  const GenerateResult upward = run();
  EXPECT_EQ(upward.ids, plain.ids);
  EXPECT_TRUE(same_bits(upward.logprobs, plain.logprobs));
}

// Token 6 stands exactly where min_p cuts: an ulp decides.
TEST(Generator, TheHostsRoundingDoesNotChangeWhatOptionsMean) {
  const Model model = tiny_model();
  const Generator generator(model);
  int hard = 0;
  for (int k = 1; k < 400 && hard < 5; ++k) {
    const double p = k / 1000.0, score = math::log(p);
    const auto logarithm = [p] {
      const test::RoundingUpward host;
      return math::log(p);
    };
    if (!(logarithm() > score)) continue;
    ++hard;
    const GenerateOptions options{.max_new_tokens = 25,
                                  .do_sample = true,
                                  .top_k = 0,
                                  .min_p = p,
                                  .logits_processor =
                                      [score](std::span<double> scores, const DecodingStep&) {
                                        std::fill(scores.begin(), scores.end(),
                                                  -std::numeric_limits<double>::infinity());
                                        scores[5] = 0;
                                        scores[6] = score;
                                      },
                                  .seed = 1,
                                  .eos_token_id = std::vector<TokenId>{}};
    const std::vector<TokenId> expected = generator.generate(kPrompt, options).ids;
    const test::RoundingUpward host;
    EXPECT_EQ(generator.generate(kPrompt, options).ids, expected) << p;
    EXPECT_EQ(generator.stream(kPrompt, options).begin()->id, expected.front()) << p;
  }
  EXPECT_EQ(hard, 5);
}

TEST(Generator, EndsNoHostThatTrapsWhatIsInexact) {
  const std::filesystem::path folder = GPT_SOURCE_DIR "/examples/models/demo";
  const std::string prompt = "ROMEO:";
  const GenerateOptions options{.max_new_tokens = 3,
                                .do_sample = true,
                                .temperature = 0.7,
                                .dynatemp_range = 0.3,
                                .top_p = 0.9,
                                .min_p = 0.1,
                                .seed = 3,
                                .logprobs = 2};
  const GenerateOptions impossible{.min_p = std::numeric_limits<double>::quiet_NaN()};
  const test::Trapping host;
  if (!host.traps()) GTEST_SKIP() << "floating-point exceptions cannot be trapped here";
  options.validate();
  EXPECT_THROW(impossible.validate(), ArgumentError);
  const Model model = Model::load(folder);
  const Generator generator(model);
  generator.check(options);
  EXPECT_THROW(generator.check(impossible), ArgumentError);
  EXPECT_EQ(generator.generate(prompt, options).ids.size(), 3u);
  for (const Piece& piece : generator.stream(prompt, options)) EXPECT_GE(piece.id, 0);
  EXPECT_EQ(generator.generate(prompt, {.max_new_tokens = 3, .num_beams = 2}).ids.size(), 3u);
  Scheduler scheduler(model, {.kv_cache_bytes = 16 << 20});
  const RequestId id = scheduler.submit(prompt, options);
  scheduler.run();
  EXPECT_EQ(scheduler.take(id)->get().ids.size(), 3u);
}

TEST(Generator, CachesOfNarrowTypesComputeAlmostTheSame) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = Model::load(GPT_SOURCE_DIR "/examples/models/demo");
  const Generator generator(model);
  const std::vector<TokenId> prompt(100, 40);
  const auto first_logprob = [&](DType dtype) {
    return generator.generate(prompt, {.max_new_tokens = 2, .logprobs = 0, .kv_cache_dtype = dtype})
        .logprobs.at(1);
  };
  const double expected = first_logprob(DType::f32);
  for (const DType dtype : {DType::f16, DType::bf16, DType::i8}) {
    EXPECT_NE(first_logprob(dtype), expected) << name_of(dtype);  // the type is heeded
    EXPECT_NEAR(first_logprob(dtype), expected, 0.05) << name_of(dtype);
  }
}

TEST(Generator, LogprobsAreTheLogSoftmaxOfTheRawLogits) {
  const Model model = tiny_model();
  auto options = sampling(5);
  options.temperature = 0.3;  // must not show
  options.logprobs = 97;
  const GenerateResult result = Generator(model).generate(kPrompt, options);
  ASSERT_EQ(result.logprobs.size(), 5u);
  ASSERT_EQ(result.top_logprobs.size(), 5u);
  std::vector<TokenId> history = kPrompt;
  for (std::size_t t = 0; t < 5; ++t) {
    const std::vector<float> logits = logits_after(model, history);
    const std::vector<double> scores(logits.begin(), logits.end());
    std::vector<double> p(scores.size());
    softmax(scores, p);
    double sum = 0.0;
    for (const TokenLogProb& entry : result.top_logprobs[t]) {
      EXPECT_NEAR(std::exp(entry.logprob), p[static_cast<std::size_t>(entry.id)],
                  5e-7);  // float32 exponentials
      sum += std::exp(entry.logprob);
      if (entry.id == result.ids[t]) {
        EXPECT_EQ(entry.logprob, result.logprobs[t]);
      }
    }
    EXPECT_NEAR(sum, 1.0, 1e-6);
    EXPECT_TRUE(std::is_sorted(result.top_logprobs[t].begin(), result.top_logprobs[t].end(),
                               [](const auto& a, const auto& b) { return a.logprob > b.logprob; }));
    EXPECT_EQ(result.top_logprobs[t][0].id, argmax(std::span<const double>(scores)));
    history.push_back(result.ids[t]);
  }
}

TEST(Generator, ZeroLogprobsReportsTheChosenTokensAlone) {
  const Model model = tiny_model();
  const GenerateResult result = Generator(model).generate(kPrompt, {.max_new_tokens = 2, .logprobs = 0});
  EXPECT_EQ(result.logprobs.size(), 2u);
  EXPECT_TRUE(result.top_logprobs[0].empty() && result.top_logprobs[1].empty());
  EXPECT_TRUE(Generator(model).generate(kPrompt, {.max_new_tokens = 2}).logprobs.empty());
}

TEST(Generator, CountsTheTokensItTimes) {
  const Model model = tiny_model();
  const GenerateTiming timing = Generator(model).generate(kPrompt, {.max_new_tokens = 6}).timing;
  EXPECT_EQ(timing.prefill_tokens, 5);
  EXPECT_EQ(timing.decode_tokens, 5);
  EXPECT_GT(timing.prefill_s, 0.0);
  EXPECT_GT(timing.decode_s, 0.0);
}

TEST(Generator, WorksWithoutATokenizer) {
  const Model model = test::tiny_model_without_tokenizer();
  const Generator generator(model);
  const GenerateResult result = generator.generate(kPrompt, {.max_new_tokens = 4});
  const Model with_tokenizer = tiny_model();
  EXPECT_EQ(result.ids, Generator(with_tokenizer).generate(kPrompt, {.max_new_tokens = 4}).ids);
  EXPECT_EQ(result.text, "");
  expect_error<UnsupportedError>([&] { generator.generate("abc"); }, {"no tokenizer"});
  expect_error<UnsupportedError>(
      [&] { generator.generate(kPrompt, {.stop_strings = std::vector<std::string>{"x"}}); },
      {"stop_strings", "tokenizer"});
}

TEST(Generator, ToleratesIdsThatTheTokenizerDoesNotKnow) {
  Gpt2Config config = test::endless_config();
  config.vocab_size = 300;  // two thirds of the embeddings have no token
  const Model model = tiny_model(config);
  const GenerateResult result = Generator(model).generate(std::vector<TokenId>{200}, sampling(30));
  EXPECT_EQ(result.ids.size(), 30u);
  EXPECT_GE(*std::max_element(result.ids.begin(), result.ids.end()), 97);
}

TEST(Generator, SaysWhichPromptOfSeveralItCannotContinue) {
  const Model model = tiny_model();
  const Generator generator(model);
  for (const GenerateOptions& options : {GenerateOptions{}, GenerateOptions{.num_beams = 2},
                                         GenerateOptions{.top_k = 4, .penalty_alpha = 0.5}}) {
    const auto generate = [&](const std::vector<std::vector<TokenId>>& prompts) {
      return [&generator, &options, prompts] { generator.generate(prompts, options); };
    };
    expect_error<ArgumentError>(generate({{1}, {}, {2}}), {"the prompt at index 1 is empty"});
    expect_error<ArgumentError>(generate({{1}, {2}, {3, 97}}),
                                {"token id 97 at index 1 of the prompt at index 2 is outside"});
    expect_error<ArgumentError>(generate({{}}), {"the prompt is empty"});
  }
}

TEST(Generator, NamesNoBosTokenThatIsOutsideTheVocabulary) {
  for (const TokenId id : {-1, 97}) {
    Gpt2Config config = test::endless_config();
    config.bos_token_id = id;
    const Model model = tiny_model(config);
    const std::string message = test::message_of<ArgumentError>([&] { Generator(model).generate(""); });
    EXPECT_EQ(message, "[generate] the prompt is empty: there is no token to continue from");
  }
}

TEST(Generator, RefusesPromptsItCannotContinue) {
  const Model model = tiny_model();
  const Generator generator(model);
  expect_error<ArgumentError>([&] { generator.generate(""); }, {"prompt is empty", "bos_token_id = 96"});
  expect_error<ArgumentError>(
      [&] {
        generator.generate(std::vector<TokenId>{1, 97});
      },
      {"id 97", "index 1", "97)"});
  expect_error<ArgumentError>([&] { generator.generate(std::vector<TokenId>{-1}); }, {"id -1"});
  expect_error<ArgumentError>([&] { generator.generate(std::vector<TokenId>(33, 0)); }, {"33 tokens", "32"});
  expect_error<ArgumentError>([&] { generator.generate(kPrompt, {.max_new_tokens = 29}); },
                              {"prompt's 5", "29 new", "n_positions = 32", "28 new"});
  expect_error<ArgumentError>([&] { generator.generate(std::vector<TokenId>{1}, {.max_new_tokens = 33}); },
                              {"the prompt's 1 token and 33 new ones do not fit"});
  expect_error<ArgumentError>(
      [&] { generator.generate(std::vector<TokenId>(32, 0), {.max_new_tokens = 2}); },
      {"the prompt's 32 tokens and 2 new ones", "leaves room for 1 new token", "1 new token"});
  expect_error<ArgumentError>([&] { generator.generate(kPrompt, {.max_length = 34}); }, {"n_positions = 32"});
  expect_error<ArgumentError>(
      [&] { generator.generate(kPrompt, {.max_new_tokens = std::numeric_limits<std::int64_t>::max()}); },
      {"n_positions = 32"});
}

TEST(Generator, NamesTheParameterThatIsNotFinite) {
  Model model = tiny_model();
  model.network().visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "h.1.mlp.c_fc.weight") tensor.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  });
  const Generator generator(model);
  expect_error<NumericError>([&] { generator.generate(kPrompt); },
                             {"position 4", "token id 5", "h.1.mlp.c_fc.weight", "element [0, 5] is nan"});
}

TEST(Generator, ReportsLogitsThatOverflowThoughAllWeightsAreFinite) {
  Gpt2Config config = test::endless_config();
  config.tie_word_embeddings = false;
  Model model = tiny_model(config);
  model.network().visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name != "ln_f.weight" && name != "lm_head.weight") return;
    for (float& value : tensor.span<float>()) value = 1e25f;
  });
  const Generator generator(model);
  try {
    generator.generate(kPrompt);
    FAIL() << "nothing thrown";
  } catch (const NumericError& error) {
    EXPECT_EQ(std::string(error.what()).find("parameter"), std::string::npos) << error.what();
  }
}

TEST(Generator, ThrowsWhatFunctionsOfTheCallerThrowAsItIs) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto refuse = [](auto&&...) { throw std::length_error("my own message"); };
  EXPECT_EQ(test::message_of<std::length_error>(
                [&] { generator.generate(kPrompt, {.max_new_tokens = 2, .on_token = refuse}); }),
            "my own message");
  EXPECT_EQ(test::message_of<std::length_error>(
                [&] { generator.generate(kPrompt, {.max_new_tokens = 2, .logits_processor = refuse}); }),
            "my own message");
}

TEST(FinishReason, HasTheNamesOfTheJsonOutput) {
  EXPECT_EQ(name_of(FinishReason::kLength), "length");
  EXPECT_EQ(name_of(FinishReason::kEos), "eos");
  EXPECT_EQ(name_of(FinishReason::kStopString), "stop");
  EXPECT_EQ(name_of(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace gpt
