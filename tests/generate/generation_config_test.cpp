// Which value an option gets: the caller's, the checkpoint's, or transformers' default.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::tiny_model;
using test::with_file;

const std::vector<TokenId> kShortPrompt = {3, 1, 4};

void load(const Model& model) { const Generator generator(model); }

std::vector<TokenId> generated(const Model& model, const GenerateOptions& options = {}) {
  return Generator(model).generate(kShortPrompt, options).ids;
}

TEST(GenerationConfig, DefaultsAreGreedyAndTwentyTokens) {
  const Model model = tiny_model();
  EXPECT_EQ(generated(model).size(), 20u);
  EXPECT_EQ(generated(model), generated(model, {.max_new_tokens = 20, .do_sample = false}));
}

TEST(GenerationConfig, TheDefaultLengthIsCappedToTheContext) {
  const Model model = tiny_model();
  const Generator generator(model);
  EXPECT_EQ(generator.generate(std::vector<TokenId>(30, 1)).ids.size(), 2u);
  EXPECT_EQ(generator.generate(std::vector<TokenId>(32, 1)).ids.size(), 1u);
}

TEST(GenerationConfig, MaxLengthCountsThePrompt) {
  EXPECT_EQ(generated(tiny_model(), {.max_length = 10}).size(), 7u);
  expect_error<ArgumentError>([] { generated(tiny_model(), {.max_length = 3}); },
                              {"max_length is 3", "prompt's 3"});
}

TEST(GenerationConfig, LengthsFollowTheCallerThenTheFile) {
  EXPECT_EQ(generated(with_file(R"({"max_new_tokens": 4, "max_length": 9})")).size(), 4u);
  EXPECT_EQ(generated(with_file(R"({"max_length": 9})")).size(), 6u);
  EXPECT_EQ(generated(with_file(R"({"max_length": 20})")).size(),
            20u);  // transformers' default, wherever it stands
  EXPECT_EQ(generated(with_file(R"({"max_new_tokens": 4})"), {.max_new_tokens = 2}).size(), 2u);
  EXPECT_EQ(generated(with_file(R"({"max_new_tokens": 4})"), {.max_length = 5}).size(), 2u);
}

TEST(GenerationConfig, BothLengthsFromTheCallerAreRefused) {
  expect_error<ArgumentError>([] { generated(tiny_model(), {.max_new_tokens = 3, .max_length = 10}); },
                              {"max_new_tokens", "max_length"});
}

TEST(GenerationConfig, SamplingOptionsFollowTheCallerThenTheFileThenTheDefault) {
  const Model plain = tiny_model();
  const Model sampling =
      with_file(R"({"do_sample": true, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.01,
                                       "repetition_penalty": 1.3})");
  EXPECT_EQ(generated(sampling), generated(plain, {.do_sample = true,
                                                   .temperature = 0.5,
                                                   .top_k = 7,
                                                   .top_p = 0.9,
                                                   .min_p = 0.01,
                                                   .repetition_penalty = 1.3}));
  EXPECT_EQ(
      generated(sampling,
                {.temperature = 2.0, .top_k = 0, .top_p = 1.0, .min_p = 0.0, .repetition_penalty = 1.0}),
      generated(plain, {.do_sample = true, .temperature = 2.0, .top_k = 0}));
  EXPECT_EQ(generated(plain, {.do_sample = true}), generated(plain, {.do_sample = true, .top_k = 50}));
  EXPECT_NE(generated(plain, {.do_sample = true, .temperature = 3.0}),
            generated(plain, {.do_sample = true, .temperature = 3.0, .top_k = 0}));
}

TEST(GenerationConfig, TheCallerTurnsSamplingOff) {
  EXPECT_EQ(generated(with_file(R"({"do_sample": true, "temperature": 5.0})"), {.do_sample = false}),
            generated(tiny_model()));
}

TEST(GenerationConfig, ASamplingOptionWithoutDoSampleIsRefusedByName) {
  const Model model = tiny_model();
  expect_error<ArgumentError>([&] { generated(model, {.temperature = 0.5}); }, {"temperature", "do_sample"});
  expect_error<ArgumentError>([&] { generated(model, {.top_k = 5}); }, {"top_k", "do_sample"});
  expect_error<ArgumentError>([&] { generated(model, {.top_p = 0.5}); }, {"top_p", "do_sample"});
  expect_error<ArgumentError>([&] { generated(model, {.do_sample = false, .min_p = 0.5}); },
                              {"min_p", "do_sample"});
  expect_error<ArgumentError>(
      [] { generated(with_file(R"({"do_sample": true})"), {.do_sample = false, .top_k = 5}); }, {"top_k"});
  // Without a model; but a file may have both, of which transformers only warns.
  expect_error<ArgumentError>([] { GenerateOptions{.do_sample = false, .top_k = 5}.validate(); }, {"top_k"});
  EXPECT_EQ(generated(with_file(R"({"do_sample": false, "top_k": 5})")), generated(model));
}

TEST(GenerationConfig, RepetitionPenaltyAndSeedNeedNoSampling) {
  const Model model = tiny_model();
  EXPECT_NE(generated(model, {.repetition_penalty = 50.0}), generated(model));
  EXPECT_EQ(generated(model, {.seed = 5}), generated(model));
}

TEST(GenerationConfig, ValuesOutsideTheirRangeAreRefusedByName) {
  const Model model = tiny_model();
  expect_error<ArgumentError>([&] { generated(model, {.do_sample = true, .temperature = 0.0}); },
                              {"temperature is 0"});
  expect_error<ArgumentError>([&] { generated(model, {.do_sample = true, .top_p = 1.5}); }, {"top_p is 1.5"});
  expect_error<ArgumentError>([&] { generated(model, {.repetition_penalty = -1.0}); },
                              {"repetition_penalty is -1"});
  expect_error<ArgumentError>([&] { generated(model, {.max_new_tokens = 0}); }, {"max_new_tokens is 0"});
  expect_error<ArgumentError>([&] { generated(model, {.logprobs = -1}); }, {"logprobs is -1"});
  expect_error<ArgumentError>([&] { generated(model, {.logprobs = 98}); }, {"logprobs is 98", "97"});
  expect_error<ArgumentError>([&] { generated(model, {.num_threads = -2}); }, {"num_threads is -2"});
  expect_error<ArgumentError>([&] { generated(model, {.kv_cache_dtype = DType::f64}); },
                              {"kv_cache_dtype is float64", "int8"});
  expect_error<ArgumentError>(
      [&] {
        generated(model, {.stop_strings = std::vector<std::string>{"a", ""}});
      },
      {"stop_strings", "empty"});
  expect_error<ArgumentError>([&] { generated(model, {.eos_token_id = std::vector<TokenId>{97}}); },
                              {"eos_token_id 97", "97)"});
  // The file's are the checkpoint's fault, not the caller's.
  expect_error<FormatError>([] { generated(with_file(R"({"do_sample": true, "top_p": 7})")); },
                            {"generation_config.json", "top_p is 7"});
}

TEST(GenerationConfig, EosFollowsTheCallerThenTheFileThenConfigJson) {
  const std::vector<TokenId> all = generated(tiny_model());
  Gpt2Config config = test::endless_config();
  config.eos_token_id = {all[5], 50256};  // an id beyond the vocabulary does no harm in a file
  const std::string file = "{\"eos_token_id\": [" + std::to_string(all[3]) + ", 1000]}";
  const auto first = [&all](TokenId id) {  // tokens up to the first occurrence, inclusive
    return static_cast<std::size_t>(std::find(all.begin(), all.end(), id) - all.begin()) + 1;
  };
  EXPECT_EQ(generated(tiny_model(config)).size(), first(all[5]));
  EXPECT_EQ(generated(tiny_model(config, file)).size(), first(all[3]));
  EXPECT_EQ(generated(tiny_model(config, "{}")).size(), first(all[5]));
  EXPECT_EQ(generated(tiny_model(config, R"({"eos_token_id": null})")).size(), all.size());
  EXPECT_EQ(generated(tiny_model(config, file), {.eos_token_id = std::vector<TokenId>{all[0]}}).size(), 1u);
  EXPECT_EQ(generated(tiny_model(config, file), {.eos_token_id = std::vector<TokenId>{}}).size(), all.size());
}

TEST(GenerationConfig, AnEosTokenOutsideTheVocabularyWarns) {
  std::vector<std::string> warnings;
  const auto warn = [&warnings](std::string_view text) { warnings.emplace_back(text); };
  const Model reachable = with_file(R"({"eos_token_id": 96, "pad_token_id": 97})"),
              none = with_file(R"({"eos_token_id": null})"),
              outside = with_file(R"({"eos_token_id": [1, 97]})");
  for (const Model* model : {&reachable, &none}) {
    const Generator generator(*model, warn);
  }
  EXPECT_THAT(warnings, ::testing::IsEmpty());
  const Generator generator(outside, warn);
  EXPECT_THAT(warnings,
              ::testing::ElementsAreArray({"[generation_config.json] eos_token_id 97 is outside the "
                                           "vocabulary [0, 97) and never ends a text"}));
}

TEST(GenerationConfig, AnEosTokenOutsideTheVocabularyIsNoneToAnOption) {
  const std::vector<TokenId> all = generated(tiny_model());
  Gpt2Config config = test::endless_config();
  config.eos_token_id = {50256};
  EXPECT_EQ(generated(tiny_model(config), {.min_new_tokens = 5}), all);
  EXPECT_EQ(generated(tiny_model(config, R"({"eos_token_id": [97], "min_length": 8})")), all);
  expect_error<ArgumentError>(
      [&] { generated(tiny_model(config), {.eos_token_id = std::vector<TokenId>{97}}); },
      {"eos_token_id 97 is outside the vocabulary"});
}

TEST(GenerationConfig, NamesTheFileWhoseLengthDoesNotFit) {
  expect_error<ArgumentError>([] { generated(with_file(R"({"max_length": 3})")); },
                              {"max_length of generation_config.json is 3", "prompt's 3"});
  expect_error<ArgumentError>([] { generated(with_file(R"({"max_new_tokens": 40})")); },
                              {"40 new ones of generation_config.json", "n_positions = 32"});
}

TEST(GenerationConfig, StopStringsComeFromTheFileToo) {
  const Model plain = tiny_model();
  const GenerateOptions options{.max_new_tokens = 25, .do_sample = true, .temperature = 4.0, .top_k = 0};
  auto until = generated(plain, options);
  const auto letter = std::find_if(until.begin(), until.end(), [](TokenId id) { return id < 26; });
  ASSERT_NE(letter, until.end()) << "choose another seed";
  const std::string text(plain.tokenizer().bytes_of(*letter));
  const auto contains_text = [&](TokenId id) {
    return plain.tokenizer().bytes_of(id).find(text) != text.npos;
  };
  until.erase(std::find_if(until.begin(), until.end(), contains_text) + 1, until.end());
  EXPECT_EQ(generated(with_file("{\"stop_strings\": \"" + text + "\"}"), options), until);
  EXPECT_EQ(generated(with_file("{\"stop_strings\": [\"zzz\", \"" + text + "\"]}"), options), until);
  expect_error<FormatError>([] { generated(with_file(R"({"stop_strings": ["x", ""]})")); },
                            {"generation_config.json", "stop_strings"});
}

TEST(GenerationConfig, KeysThatWouldChangeTheResultAreRefusedByName) {
  for (const char* setting : {R"("dola_layers": "low")", R"("force_words_ids": [])", R"("constraints": [])",
                              R"("encoder_repetition_penalty": 2.0)", R"("remove_invalid_values": true)"}) {
    const Model model = with_file(std::string("{") + setting + "}");
    const std::string_view key(setting + 1, std::string_view(setting).find(':') - 2);
    expect_error<UnsupportedError>([&] { load(model); }, {"generation_config.json", key});
  }
}

TEST(GenerationConfig, FiltersThatLibgptLacksCountWhenSamplingOnly) {
  const Model model = with_file(R"({"top_h": 0.9})");
  EXPECT_EQ(generated(model), generated(tiny_model()));
  expect_error<UnsupportedError>([&] { generated(model, {.do_sample = true}); },
                                 {"generation_config.json", "top_h"});
}

TEST(GenerationConfig, NeutralValuesPassAndUnknownKeysWarn) {
  const Model model = with_file(R"({"num_beams": 1, "penalty_alpha": null, "typical_p": 1.0, "min_length": 0,
                                    "transformers_version": "4.40.0", "_from_model_config": true, "length_penalty": 2.0,
                                    "pad_token_id": 0, "new_thing": 3, "empty_thing": null})");
  std::vector<std::string> warnings;
  const Generator generator(model, [&warnings](std::string_view text) { warnings.emplace_back(text); });
  EXPECT_THAT(warnings,
              ::testing::ElementsAreArray({"[generation_config.json] unknown key \"new_thing\" is ignored"}));
}

TEST(GenerationConfig, KeysOfTheWrongTypeAreRefusedByName) {
  expect_error<FormatError>([] { load(with_file(R"({"top_k": "many"})")); },
                            {"generation_config.json", "top_k"});
  expect_error<FormatError>([] { load(with_file(R"({"num_beams": "4"})")); }, {"num_beams"});
  expect_error<FormatError>([] { load(with_file(R"({"eos_token_id": 5000000000})")); }, {"eos_token_id"});
  expect_error<FormatError>([] { load(with_file(R"({"max_new_tokens": 0})")); }, {"max_new_tokens is 0"});
}

}  // namespace
}  // namespace gpt
