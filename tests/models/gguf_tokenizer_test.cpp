// Tokenizers in GGUF files, and where texts end: there, back, and what is refused on the way there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/gguf.h"
#include "gpt/models/gguf.h"
#include "gpt/models/special_tokens.h"
#include "gpt/text/byte_bpe.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/temp_dir.h"
#include "text/byte_map.h"

namespace gpt {
namespace {

using test::expect_error;
using test::model_of;
using test::TempDir;
using ::testing::ElementsAreArray;

/// Begins and ends at the tokenizer's <|end|>.
Gpt2Config small_config() {
  Gpt2Config c = test::tiny_config();
  c.eos_token_id = {20};
  c.bos_token_id = 20;
  return c;
}

LoadOptions no_warnings() {
  LoadOptions options;
  options.on_warning = [](std::string_view message) { ADD_FAILURE() << message; };
  return options;
}

/// Some bytes, a few merges, an id that is not in use, and added tokens of both kinds.
ByteBpeModel tokenizer_model() {
  ByteBpeModel model;
  const auto add = [&](const std::string& token, TokenId id) { model.vocab.emplace_back(token, id); };
  TokenId next = 0;
  for (const char c : {'a', 'b', 'c', 'd', ' ', 'x'}) add(spell_bytes({&c, 1}), next++);
  add("ab", next++);
  add(spell_bytes(" a"), next++);
  model.merges = {{"a", "b"}, {spell_bytes(" "), "a"}};
  add("<|end|>", 20);  // 8 to 19 are not in use
  model.added_tokens = {{.content = "<|end|>", .id = 20},
                        {.content = "<user token>", .id = 21, .special = false},
                        {.content = "<pad>", .id = 96}};
  model.eos_token = model.bos_token = "<|end|>";
  model.pad_token = "<pad>";
  return model;
}

std::shared_ptr<const ByteBpe> tokenizer_of(ByteBpeModel model) {
  return std::make_shared<const ByteBpe>(std::move(model));
}

TEST(GgufTokenizer, ComesBackWithItsTokensAndTheirUses) {
  const TempDir dir;
  Gpt2Config c = small_config();
  const auto tokenizer = tokenizer_of(tokenizer_model());
  save_gguf(model_of(c, DType::f32, tokenizer), dir / "m.gguf");
  const GgufFile file(dir / "m.gguf");
  const auto tokens = *file.get_strings("tokenizer.ggml.tokens");
  const auto types = *file.get_ints("tokenizer.ggml.token_type");
  ASSERT_EQ(tokens.size(), 97u);  // llama.cpp wants one for every row
  EXPECT_EQ(tokens[6], "ab");
  EXPECT_EQ(types[6], 1);
  EXPECT_EQ(tokens[8], "[PAD8]");
  EXPECT_EQ(types[8], 5);
  EXPECT_EQ(types[20], 3);
  EXPECT_EQ(tokens[21], "<user token>");
  EXPECT_EQ(types[21], 4);
  EXPECT_EQ(file.get_string("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(file.get_unsigned("tokenizer.ggml.eos_token_id"), 20u);
  EXPECT_EQ(file.get_bool("tokenizer.ggml.add_bos_token"), false);

  const Model loaded = Model::load(dir / "m.gguf", no_warnings());
  EXPECT_EQ(loaded.config().eos_token_id, std::vector<TokenId>{20});
  const Tokenizer& again = loaded.tokenizer();
  for (const char* sample : {"abba cab", "ab<|end|>x a", "a<user token>b", "<pad> abc"}) {
    EXPECT_EQ(again.encode(sample), tokenizer->encode(sample)) << sample;
  }
  EXPECT_TRUE(again.is_special(20));
  EXPECT_FALSE(again.is_special(21));
  EXPECT_EQ(again.eos_token_id(), 20);
  EXPECT_EQ(again.pad_token_id(), 96);
  EXPECT_EQ(again.vocab_size(), 97);
}

TEST(GgufTokenizer, KeepsTheTokensAroundEveryText) {
  const TempDir dir;
  Gpt2Config c = small_config();
  ByteBpeModel model = tokenizer_model();
  model.prefix_tokens = {"<|end|>"};
  save_gguf(model_of(c, DType::f32, tokenizer_of(model)), dir / "m.gguf");
  EXPECT_THAT(Model::load(dir / "m.gguf", no_warnings()).tokenizer().encode("ab"), ElementsAreArray({20, 6}));
}

TEST(GgufTokenizer, RefusesWhatLlamaCppWouldDoOtherwise) {
  const TempDir dir;
  const auto refuse = [&](const std::function<void(ByteBpeModel&, Gpt2Config&)>& change,
                          std::initializer_list<std::string_view> parts) {
    ByteBpeModel model = tokenizer_model();
    Gpt2Config c = small_config();
    change(model, c);
    const Model m = model_of(c, DType::f32, tokenizer_of(std::move(model)));
    expect_error<UnsupportedError>([&] { save_gguf(m, dir / "x.gguf"); }, parts);
    EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
  };
  refuse([](auto& m, auto&) { m.add_prefix_space = true; }, {"x.gguf", "add_prefix_space"});
  refuse([](auto& m, auto&) { m.use_regex = false; }, {"use_regex"});
  refuse([](auto& m, auto&) { m.ignore_merges = true; }, {"ignore_merges"});
  refuse([](auto& m, auto&) { m.unk_symbol = "x"; }, {"byte 0", "unk_token"});
  refuse([](auto& m, auto&) { m.merges.clear(); }, {"has no merge", "\"ab\""});
  refuse([](auto& m, auto&) { m.added_tokens[1].lstrip = true; }, {"<user token>", "lstrip"});
  refuse([](auto& m, auto&) { m.added_tokens[1].single_word = true; }, {"<user token>", "single_word"});
  refuse([](auto& m, auto&) { m.suffix_tokens = {"<pad>"}; }, {"<pad>"});
  refuse([](auto& m, auto&) { m.added_tokens.push_back({.content = "more", .id = 97}); },
         {"98 tokens", "97"});
  refuse([](auto&, auto& c) { c.eos_token_id = {20, 3}; }, {"2 tokens"});
}

/// A tokenizer whose bos and eos are 20, and 8 no token.
Model model_that_ends(std::vector<TokenId> eos_token_id, TokenId bos_token_id = 20,
                      const char* generation_config = nullptr) {
  Gpt2Config c = small_config();
  c.eos_token_id = std::move(eos_token_id);
  c.bos_token_id = bos_token_id;
  Model model = model_of(c, DType::f32, tokenizer_of(tokenizer_model()));
  if (generation_config != nullptr)
    model.set_generation_config(HfConfig::parse(generation_config, "generation_config.json"));
  return model;
}

TEST(GgufTokenizer, EndsTextsOnlyWhereTheModelDoes) {
  const TempDir dir;
  const auto refuse = [&](const Model& model, std::initializer_list<std::string_view> parts) {
    expect_error<UnsupportedError>([&] { save_gguf(model, dir / "x.gguf"); }, parts);
    EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
  };
  // The tokenizer's would end texts that the model's own generation goes on with.
  for (const std::vector<TokenId>& none : {std::vector<TokenId>{}, {50256}, {97, -1}})
    refuse(model_that_ends(none),
           {"x.gguf", "config.json: there is no eos_token_id in the vocabulary [0, 97)", "token 11",
            "align_special_tokens", "makes it the tokenizer's, 20"});
  for (const char* none : {R"({"eos_token_id": null})", R"({"eos_token_id": []})"})
    refuse(model_that_ends({20}, 20, none), {"generation_config.json: there is no eos_token_id"});
  refuse(model_that_ends({20, 3, 20}), {" config.json: eos_token_id are 2 tokens"});
  Model model = model_that_ends({});
  align_special_tokens(model);
  save_gguf(model, dir / "m.gguf");
  EXPECT_EQ(Model::load(dir / "m.gguf", no_warnings()).config().eos_token_id, std::vector<TokenId>{20});
  save_gguf(model_that_ends({97, 20, 50256, 20}), dir / "m.gguf");  // all but one end nothing
  EXPECT_EQ(Model::load(dir / "m.gguf", no_warnings()).config().eos_token_id, std::vector<TokenId>{20});
}

TEST(GgufTokenizer, RefusesIdsWithoutATokenWhichLoadingWould) {
  const TempDir dir;
  for (const TokenId id : {8, 95}) {  // between the tokens, and behind them
    expect_error<UnsupportedError>([&] { save_gguf(model_that_ends({id}), dir / "x.gguf"); },
                                   {"x.gguf", concat("eos_token_id ", id, " is none of the tokenizer's")});
    expect_error<UnsupportedError>(
        [&] { save_gguf(model_that_ends({20}, id), dir / "x.gguf"); },
        {"x.gguf", concat("config.json: bos_token_id ", id, " is none of the tokenizer's")});
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
}

TEST(GgufTokenizer, BeginsTextsAsTheModelDoes) {
  const TempDir dir;
  const auto saved = [&](const Model& model) {
    save_gguf(model, dir / "m.gguf");
    return Model::load(dir / "m.gguf", no_warnings()).config().bos_token_id;
  };
  EXPECT_EQ(saved(model_that_ends({20}, 3)), 3);  // not with the tokenizer's
  ByteBpeModel other = tokenizer_model();
  other.bos_token = "<pad>";
  ByteBpeModel nameless = tokenizer_model();
  nameless.bos_token.reset();
  for (const TokenId none : {50256, -1}) {  // which is used for nothing
    Model model = model_that_ends({20}, none);
    model.set_tokenizer(tokenizer_of(other));
    EXPECT_EQ(saved(model), model.tokenizer().bos_token_id());
    model.set_tokenizer(tokenizer_of(nameless));
    EXPECT_EQ(saved(model), 20);
  }
  // llama.cpp would put the model's before every text, and behind it.
  ByteBpeModel around = tokenizer_model();
  around.prefix_tokens = {"<|end|>"};
  Model model = model_that_ends({20}, 3);
  model.set_tokenizer(tokenizer_of(around));
  expect_error<UnsupportedError>([&] { saved(model); }, {"<|end|>", "expected token 3 alone"});
  std::swap(around.prefix_tokens, around.suffix_tokens);
  model = model_that_ends({3});
  model.set_tokenizer(tokenizer_of(around));
  expect_error<UnsupportedError>([&] { saved(model); }, {"<|end|>", "expected token 3 alone"});
}

TEST(GgufTokenizer, EndsWhereTheGenerationConfigSays) {
  const TempDir dir;
  const auto with = [](const char* generation) { return model_that_ends({3}, 20, generation); };
  save_gguf(with(R"({"eos_token_id": 20})"), dir / "m.gguf");
  EXPECT_EQ(GgufFile(dir / "m.gguf").get_unsigned("tokenizer.ggml.eos_token_id"), 20u);
  save_gguf(with(R"({"bos_token_id": 20})"), dir / "m.gguf");
  EXPECT_EQ(GgufFile(dir / "m.gguf").get_unsigned("tokenizer.ggml.eos_token_id"), 3u);
  expect_error<UnsupportedError>([&] { save_gguf(with(R"({"eos_token_id": [20, 3]})"), dir / "x.gguf"); },
                                 {"x.gguf", "generation_config.json: eos_token_id are 2 tokens"});
  save_gguf(with(R"({"eos_token_id": [20, 20]})"), dir / "m.gguf");
  EXPECT_EQ(GgufFile(dir / "m.gguf").get_unsigned("tokenizer.ggml.eos_token_id"), 20u);
  expect_error<FormatError>([&] { save_gguf(with(R"({"eos_token_id": "</s>"})"), dir / "x.gguf"); },
                            {"generation_config.json", "eos_token_id"});
}

}  // namespace
}  // namespace gpt
