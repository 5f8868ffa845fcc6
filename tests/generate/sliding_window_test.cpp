// Sequences longer than the context.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <stop_token>
#include <vector>

#include "generate/context.h"
#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/sampler.h"
#include "gpt/generate/scheduler.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::tiny_model;

constexpr std::int64_t kContext = 32;  // of the tiny model

std::vector<TokenId> prompt_of(std::size_t length) { return test::tokens(length, 5); }

// What the documentation says, token by token and without a cache.
std::vector<TokenId> greedy_by_definition(const Model& model, std::vector<TokenId> tokens, std::int64_t count,
                                          std::int64_t keep) {
  const std::size_t prompt = tokens.size();
  const std::int64_t half = std::max<std::int64_t>(1, (kContext - keep) / 2);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t dropped = 0;
    while (static_cast<std::int64_t>(tokens.size()) - dropped > kContext) dropped += half;
    std::vector<TokenId> seen(tokens.begin(),
                              tokens.begin() + std::min(keep, static_cast<std::int64_t>(tokens.size())));
    if (std::cmp_greater(tokens.size(), keep + dropped))
      seen.insert(seen.end(), tokens.begin() + keep + dropped, tokens.end());
    Arena arena;
    const Chunk chunk{.ids = seen};
    const ForwardOutput output = model.network().forward({&chunk, 1}, arena);
    tokens.push_back(argmax(ConstTensorView(output.logits).span<float>()));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt), tokens.end()};
}

TEST(SlidingWindow, MayBeAskedForAnyNumberOfTokens) {
  const Model model = tiny_model(test::endless_config());
  std::stop_source stop;
  const GenerateResult result =
      Generator(model).generate(prompt_of(5), {.max_new_tokens = std::numeric_limits<std::int64_t>::max(),
                                               .sliding_window = true,
                                               .on_token =
                                                   [&, count = 0](const Piece&) mutable {
                                                     if (++count == 90) stop.request_stop();
                                                   },
                                               .stop = stop.get_token()});
  EXPECT_EQ(result.ids.size(), 90u);
  Scheduler scheduler(model);
  std::size_t count = 0;
  scheduler.submit(prompt_of(5),
                   {.max_new_tokens = std::numeric_limits<std::int64_t>::max(),
                    .min_new_tokens = std::numeric_limits<std::int64_t>::max(),
                    .sliding_window = true,
                    .on_token = [&](const Piece&) { ++count; }},
                   {.on_done = [](const Completion&) {}});
  while (count < 90) ASSERT_TRUE(scheduler.step());
}

TEST(SlidingWindow, DropsTheFewestHalvesThatMustGo) {
  using generate::dropped_tokens;
  EXPECT_EQ(dropped_tokens(32, 32, 0), 0);
  EXPECT_EQ(dropped_tokens(33, 32, 0), 16);
  EXPECT_EQ(dropped_tokens(48, 32, 0), 16);
  EXPECT_EQ(dropped_tokens(49, 32, 0), 32);
  EXPECT_EQ(dropped_tokens(33, 32, 5), 13);
  EXPECT_EQ(dropped_tokens(33, 32, 31), 1);
  EXPECT_EQ(dropped_tokens(2, 1, 0), 1);
}

TEST(SlidingWindow, SeesTheKeptAndTheLastTokens) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = tiny_model();
  const Generator generator(model);
  for (const std::size_t length : {1u, 5u, 31u, 32u, 33u, 50u, 90u})
    for (const std::int64_t keep : {0, 1, 5, 17, 30, -1}) {
      const std::vector<TokenId> prompt = prompt_of(length);
      const std::int64_t kept = keep < 0 ? std::ssize(prompt) : std::min(keep, std::ssize(prompt));
      if (kept >= kContext) continue;
      const GenerateResult result =
          generator.generate(prompt, {.max_new_tokens = 70, .sliding_window = true, .n_keep = keep});
      EXPECT_EQ(result.ids, greedy_by_definition(model, prompt, 70, kept)) << length << " " << keep;
      EXPECT_EQ(result.finish_reason, FinishReason::kLength);
    }
}

TEST(SlidingWindow, ChangesNothingWhereAllFits) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto ids = [&](std::optional<bool> slides) {
    return generator.generate(prompt_of(5), {.max_new_tokens = 28, .sliding_window = slides}).ids;
  };
  EXPECT_EQ(ids(true), ids({}));
}

TEST(SlidingWindow, GivesTheSameInAStreamABatchWithGuessesAndInAScheduler) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = tiny_model();
  const Generator generator(model);
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const GenerateOptions options{.max_new_tokens = 80,
                                  .do_sample = true,
                                  .repetition_penalty = 1.3,
                                  .sliding_window = true,
                                  .n_keep = static_cast<std::int64_t>(3 * seed),
                                  .seed = seed,
                                  .logprobs = 0};
    const std::vector<std::vector<TokenId>> prompts = {prompt_of(3), prompt_of(40), prompt_of(20)};
    std::vector<GenerateResult> alone;
    for (const auto& prompt : prompts) alone.push_back(generator.generate(prompt, options));

    std::vector<TokenId> streamed;
    for (const Piece& piece : generator.stream(prompts[1], options)) streamed.push_back(piece.id);
    EXPECT_EQ(streamed, alone[1].ids);

    const auto batch = generator.generate(prompts, options);
    GenerateOptions guessing = options;
    guessing.prompt_lookup_num_tokens = 7;
    guessing.max_matching_ngram_size = 1;
    const auto guessed = generator.generate(prompts, guessing);
    Scheduler scheduler(model, {.max_batch = 2, .max_tokens_per_step = 9});
    std::vector<RequestId> requests;
    for (const auto& prompt : prompts) requests.push_back(scheduler.submit(prompt, options));
    scheduler.run();
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(batch[i].ids, alone[i].ids);
      EXPECT_EQ(guessed[i].ids, alone[i].ids);
      EXPECT_EQ(guessed[i].logprobs, alone[i].logprobs);
      const Completion done = *scheduler.take(requests[i]);
      EXPECT_EQ(done.result.ids, alone[i].ids);
      EXPECT_EQ(done.result.logprobs, alone[i].logprobs);
      EXPECT_EQ(done.result.text, alone[i].text);
    }
  }
}

TEST(SlidingWindow, GoesOnWithEachOfSeveralSequences) {
  const Model model = tiny_model();
  GenerateOptions options{
      .max_new_tokens = 60, .do_sample = true, .num_return_sequences = 3, .sliding_window = true};
  const std::vector<std::vector<TokenId>> prompts = {prompt_of(30)};
  const auto together = Generator(model).generate(prompts, options);
  options.num_return_sequences = 1;
  for (std::uint64_t r = 0; r < 3; ++r) {
    options.stream = r;
    EXPECT_EQ(Generator(model).generate(prompts[0], options).ids, together[r].ids) << r;
  }
}

TEST(SlidingWindow, HasADefaultLengthBeyondTheContext) {
  const Model model = tiny_model();
  EXPECT_EQ(Generator(model).generate(prompt_of(30), {.sliding_window = true}).ids.size(), 20u);
}

TEST(SlidingWindow, IsAnOptionOfTheCheckpointToo) {
  const Model model = tiny_model(test::endless_config(), R"({"sliding_window": true, "n_keep": 4})");
  const Generator generator(model);
  EXPECT_EQ(generator.generate(prompt_of(10), {.max_new_tokens = 40}).ids,
            greedy_by_definition(model, prompt_of(10), 40, 4));
  expect_error<ArgumentError>(
      [&] {
        generator.generate(prompt_of(10), {.max_new_tokens = 40, .sliding_window = false, .n_keep = 2});
      },
      {"n_keep is set but sliding_window is off"});
}

TEST(SlidingWindow, RefusesWhatItCannotDo) {
  const Model model = tiny_model();
  const Generator generator(model);
  expect_error<ArgumentError>([&] { generator.generate(prompt_of(33)); }, {"33", "n_positions = 32"});
  expect_error<ArgumentError>([&] { generator.check({.n_keep = 1}); }, {"n_keep", "sliding_window is off"});
  expect_error<ArgumentError>([&] { generator.check({.sliding_window = true, .n_keep = -2}); },
                              {"n_keep is -2"});
  for (const std::int64_t keep : {32, -1})
    expect_error<ArgumentError>(
        [&] { generator.generate(prompt_of(40), {.sliding_window = true, .n_keep = keep}); },
        {"n_keep", "n_positions = 32"});
  expect_error<UnsupportedError>([&] { generator.check({.num_beams = 2, .sliding_window = true}); },
                                 {"num_beams", "sliding_window"});
  expect_error<UnsupportedError>(
      [&] { generator.check({.top_k = 4, .penalty_alpha = 0.5, .sliding_window = true}); },
      {"penalty_alpha", "sliding_window"});
  expect_error<UnsupportedError>([&] { generator.check({.guidance_scale = 2, .sliding_window = true}); },
                                 {"guidance_scale", "sliding_window"});
}

}  // namespace
}  // namespace gpt
