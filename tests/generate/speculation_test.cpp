// Speculation: guesses by prompt lookup and by an assistant model change how many passes it takes, and no bit of the result.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "generate/generation_config.h"
#include "generate/same_result.h"
#include "generate/session.h"
#include "generate/settings.h"
#include "generate/tiny_model.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::expect_same;
using test::tiny_model;
using Ids = std::vector<TokenId>;

const Ids kRepeating = {3, 1, 4, 1, 5, 3, 1};

/// Another small network with the same vocabulary and, as it may be, a shorter context.
Model assistant(std::int64_t n_positions = 32) {
  Gpt2Config config = test::endless_config();
  config.n_positions = n_positions;
  return Model(test::random_network(config, 2), HfConfig());
}

// With as many tokens decoded.
void expect_same_run(const GenerateResult& found, const GenerateResult& expected) {
  expect_same(found, expected);
  EXPECT_EQ(found.timing.decode_tokens, expected.timing.decode_tokens);
}

// Ways of generating whose every token depends on something else.
std::vector<GenerateOptions> ways() {
  std::vector<GenerateOptions> all(6);
  all[1].repetition_penalty = 1.3;
  all[1].eos_token_id = Ids{33};
  for (std::size_t i = 2; i < all.size(); ++i) {
    all[i].do_sample = true;
    all[i].top_k = 3;
    all[i].seed = i;
  }
  all[3].temperature = 0.5;
  all[3].eos_token_id = Ids{16, 70};
  all[4].top_k.reset();
  all[4].mirostat = 2;  // remembers what was chosen
  all[4].mirostat_tau = 1.0;
  all[5].stop_strings = std::vector<std::string>{"e", "t"};
  for (GenerateOptions& options : all) {
    options.max_new_tokens = 26;
    options.logprobs = 1;
  }
  return all;
}

TEST(Speculation, ByPromptLookupGivesTheSameBits) {
  const Model model = tiny_model();
  const Generator generator(model);
  for (GenerateOptions options : ways()) {
    const GenerateResult expected = generator.generate(kRepeating, options);
    for (const std::int64_t count : {1, 3, 10, 100}) {
      for (const std::int64_t ngram : {1, 2, 4}) {
        options.prompt_lookup_num_tokens = count;
        options.max_matching_ngram_size = ngram;
        expect_same_run(generator.generate(kRepeating, options), expected);
      }
    }
  }
}

TEST(Speculation, ByAnAssistantModelGivesTheSameBits) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = tiny_model();
  const Generator generator(model);
  const Model other = assistant(), shorter = assistant(20);
  for (GenerateOptions options : ways()) {
    const GenerateResult expected = generator.generate(kRepeating, options);
    for (const Model* drafts : {&model, &other, &shorter}) {
      for (const std::int64_t count : {1, 4, 40}) {
        for (const double threshold : {0.0, 0.1, 1.0}) {
          options.assistant_model = drafts;
          options.num_assistant_tokens = count;
          options.assistant_confidence_threshold = threshold;
          expect_same_run(generator.generate(kRepeating, options), expected);
        }
      }
    }
  }
}

TEST(Speculation, InABatchWithSeveralSequencesAndNarrowCachesGivesTheSameBits) {
  const Model model = tiny_model();
  const Generator generator(model);
  const Model other = assistant();
  const std::vector<Ids> prompts = {kRepeating, {2}, {8, 8, 8}};
  for (const DType dtype : {DType::f32, DType::i8}) {
    GenerateOptions options{.max_new_tokens = 20,
                            .do_sample = true,
                            .top_k = 4,
                            .num_return_sequences = 3,
                            .eos_token_id = Ids{16},
                            .logprobs = 0,
                            .kv_cache_dtype = dtype};
    const auto expected = generator.generate(prompts, options);
    options.prompt_lookup_num_tokens = 5;
    const auto by_lookup = generator.generate(prompts, options);
    options.prompt_lookup_num_tokens.reset();
    options.assistant_model = &other;
    options.assistant_confidence_threshold = 0.0;
    const auto by_assistant = generator.generate(prompts, options);
    ASSERT_EQ(by_lookup.size(), 9u);
    for (std::size_t i = 0; i < 9; ++i) {
      expect_same_run(by_lookup[i], expected[i]);
      expect_same_run(by_assistant[i], expected[i]);
    }
  }
}

TEST(Speculation, AfterAPromptOfOneTokenGivesTheSameBits) {
  const Model model = tiny_model();
  const Generator generator(model);
  for (GenerateOptions options : ways()) {
    options.num_return_sequences = options.do_sample.value_or(false) ? 3 : 1;
    const std::vector<Ids> prompts = {{2}};
    const auto expected = generator.generate(prompts, options);
    options.assistant_model = &model;
    options.assistant_confidence_threshold = 0.0;
    const auto guessed = generator.generate(prompts, options);
    ASSERT_EQ(guessed.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) expect_same_run(guessed[i], expected[i]);
  }
}

TEST(Speculation, StreamsOnePieceAfterTheOther) {
  const Model model = tiny_model();
  const Generator generator(model);
  const GenerateOptions options{
      .max_new_tokens = 24, .assistant_model = &model, .assistant_confidence_threshold = 0.0};
  Stream stream = generator.stream(kRepeating, options);
  Ids ids;
  std::string text;
  for (const Piece& piece : stream) {
    ids.push_back(piece.id);
    text += piece.text;
  }
  const GenerateResult expected = generator.generate(kRepeating, {.max_new_tokens = 24});
  EXPECT_EQ(ids, expected.ids);
  EXPECT_EQ(text, expected.text);
  EXPECT_EQ(stream.result().ids, expected.ids);
}

// The steps, each one forward pass once the prompt is fed, that a generation takes.
int steps_of(const Model& model, const Ids& prompt, const GenerateOptions& options) {
  const auto defaults = generate::read_defaults(model, {});
  std::vector<Ids> prompts;
  prompts.push_back(prompt);
  generate::Session session(model, generate::resolve(options, defaults, model), std::move(prompts));
  int steps = 0;
  while (!session.step().empty()) ++steps;
  return steps;
}

TEST(Speculation, TakesFewerPassesWhereTheGuessesAreGood) {
  const Model model = tiny_model();
  GenerateOptions options{.max_new_tokens = 21};
  EXPECT_EQ(steps_of(model, kRepeating, options), 21);
  options.assistant_model = &model;  // is always right: 1 + 4 tokens a step behind the prompt's
  options.num_assistant_tokens = 4;
  options.assistant_confidence_threshold = 0.0;
  EXPECT_EQ(steps_of(model, kRepeating, options), 1 + 20 / 5);
  options.do_sample = true;  // also when both draw, by the same random numbers
  options.top_k = 0;
  EXPECT_EQ(steps_of(model, kRepeating, options), 1 + 20 / 5);
  options.assistant_confidence_threshold = 1.0;  // one guess a step
  EXPECT_EQ(steps_of(model, kRepeating, options), 1 + 20 / 2);

  // A text that repeats itself, since nothing else may come.
  GenerateOptions lookup{.max_new_tokens = 21};
  lookup.prefix_allowed_tokens_fn = [](std::size_t, std::span<const TokenId> history) {
    return Ids{static_cast<TokenId>((history.back() + 1) % 4)};
  };
  const Ids cycle = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2};
  EXPECT_EQ(steps_of(model, cycle, lookup), 21);
  lookup.prompt_lookup_num_tokens = 4;
  EXPECT_EQ(steps_of(model, cycle, lookup), 1 + 20 / 5);
}

TEST(Speculation, RefusesWhatDoesNotGoWithIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto unsupported = [&](const GenerateOptions& options, std::string_view part,
                               std::string_view other) {
    expect_error<UnsupportedError>([&] { generator.check(options); }, {part, other});
  };
  unsupported({.prompt_lookup_num_tokens = 3, .num_beams = 2}, "prompt_lookup_num_tokens", "num_beams");
  unsupported({.assistant_model = &model, .num_beams = 2}, "assistant_model", "num_beams");
  unsupported({.prompt_lookup_num_tokens = 3, .guidance_scale = 2.0}, "prompt_lookup_num_tokens",
              "guidance_scale");
  unsupported({.assistant_model = &model, .guidance_scale = 2.0}, "assistant_model", "guidance_scale");

  const auto wrong = [&](const GenerateOptions& options, std::string_view part, std::string_view other) {
    expect_error<ArgumentError>([&] { generator.generate(kRepeating, options); }, {part, other});
  };
  wrong({.prompt_lookup_num_tokens = -1}, "prompt_lookup_num_tokens is -1", "0 (off)");
  wrong({.prompt_lookup_num_tokens = 3, .max_matching_ngram_size = 0}, "max_matching_ngram_size is 0",
        "expected 1");
  wrong({.max_matching_ngram_size = 3}, "max_matching_ngram_size is set", "prompt_lookup_num_tokens is off");
  wrong({.num_assistant_tokens = 3}, "num_assistant_tokens is set", "assistant_model is off");
  wrong({.assistant_confidence_threshold = 0.5}, "assistant_confidence_threshold is set",
        "assistant_model is off");
  wrong({.assistant_model = &model, .num_assistant_tokens = 0}, "num_assistant_tokens is 0", "expected 1");
  wrong({.assistant_model = &model, .assistant_confidence_threshold = 1.5},
        "assistant_confidence_threshold is 1.5", "0 to 1");
  wrong({.prompt_lookup_num_tokens = 3, .assistant_model = &model}, "prompt_lookup_num_tokens",
        "assistant_model");
  Gpt2Config config = test::endless_config();
  config.vocab_size = 96;
  config.bos_token_id.reset();
  const Model other(test::random_network(config, 2), HfConfig());
  wrong({.assistant_model = &other}, "assistant_model has a vocabulary of 96", "97");
}

}  // namespace
}  // namespace gpt
