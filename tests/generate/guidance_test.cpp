// Classifier-free guidance: the second sequence that a generation computes for it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "generate/log_probs_after.h"
#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kPrompt;
using test::log_probs_after;
using test::tiny_model;

const std::vector<TokenId> kNegative = {9, 2, 6};

// Greedy by the formula of transformers' UnbatchedClassifierFreeGuidanceLogitsProcessor.
std::vector<TokenId> guided(const Model& model, double scale, std::vector<TokenId> other, std::size_t count) {
  std::vector<TokenId> tokens = kPrompt;
  while (tokens.size() < kPrompt.size() + count) {
    const auto s = log_probs_after(model, tokens), u = log_probs_after(model, other);
    std::size_t best = 0;
    const auto score = [&](std::size_t i) { return scale * (s[i] - u[i]) + u[i]; };
    for (std::size_t i = 1; i < s.size(); ++i) {
      if (score(i) > score(best)) best = i;
    }
    tokens.push_back(static_cast<TokenId>(best));
    other.push_back(static_cast<TokenId>(best));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(kPrompt.size()), tokens.end()};
}

TEST(Guidance, ComparesWithTheNegativePromptAndTheSameNewTokens) {
  const Model model = tiny_model();
  const Generator generator(model);
  for (const double scale : {-1.0, 0.0, 0.5, 3.0, 8.0}) {
    const auto result = generator.generate(
        kPrompt, {.max_new_tokens = 20, .guidance_scale = scale, .negative_prompt_ids = kNegative});
    EXPECT_EQ(result.ids, guided(model, scale, kNegative, 20)) << scale;
  }
  EXPECT_NE(guided(model, 3.0, kNegative, 20), generator.generate(kPrompt, {.max_new_tokens = 20}).ids);
}

TEST(Guidance, WithoutANegativePromptBeginsAtThePromptsLastToken) {
  const Model model = tiny_model();
  const auto result = Generator(model).generate(kPrompt, {.max_new_tokens = 20, .guidance_scale = 4.0});
  EXPECT_EQ(result.ids, guided(model, 4.0, {kPrompt.back()}, 20));
}

TEST(Guidance, OfOneIsOff) {
  const Model model = tiny_model();
  const Generator generator(model);
  EXPECT_EQ(generator.generate(kPrompt, {.guidance_scale = 1.0}).ids, generator.generate(kPrompt).ids);
}

TEST(Guidance, ABatchGivesWhatItsPromptsGiveAlone) {
  const Model model = tiny_model();
  const Generator generator(model);
  std::vector<std::vector<TokenId>> prompts;  // with their negative prompts more than one pass takes
  for (int i = 0; i < 28; ++i) {
    auto& prompt = prompts.emplace_back();
    for (int j = 0; j <= i; ++j) prompt.push_back((17 * i + 29 * j) % 97);
  }
  const GenerateOptions options{.max_new_tokens = 4,
                                .do_sample = true,
                                .top_k = 0,
                                .guidance_scale = 2.5,
                                .negative_prompt_ids = std::vector<TokenId>(25, 7),
                                .seed = 3,
                                .logprobs = 0};
  const auto results = generator.generate(prompts, options);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const GenerateResult alone = generator.generate(prompts[i], options);
    EXPECT_EQ(results[i].ids, alone.ids) << i;
    EXPECT_EQ(results[i].timing.prefill_tokens, static_cast<std::int64_t>(prompts[i].size()));
    ASSERT_EQ(results[i].logprobs.size(), alone.logprobs.size());
    EXPECT_EQ(std::memcmp(results[i].logprobs.data(), alone.logprobs.data(), 4 * sizeof(double)), 0) << i;
  }
}

TEST(Guidance, RefusesANegativePromptThatCannotBe) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto with = [&](std::vector<TokenId> ids, double scale = 2.0) {
    generator.generate(kPrompt,
                       {.max_new_tokens = 8, .guidance_scale = scale, .negative_prompt_ids = std::move(ids)});
  };
  EXPECT_NO_THROW(with(std::vector<TokenId>(25, 1)));
  expect_error<ArgumentError>([&] { with(std::vector<TokenId>(26, 1)); },
                              {"negative_prompt_ids holds 26", "8 new ones", "n_positions = 32"});
  expect_error<ArgumentError>([&] { with({}); }, {"negative_prompt_ids", "empty"});
  expect_error<ArgumentError>([&] { with({1, 97}); }, {"negative_prompt_ids", "97"});
  expect_error<ArgumentError>([&] { with({1}, 1.0); }, {"negative_prompt_ids", "guidance_scale is off"});
}

}  // namespace
}  // namespace gpt
