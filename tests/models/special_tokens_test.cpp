// What a model's special tokens become with another tokenizer, much by the rules of transformers' Trainer.
#include "gpt/models/special_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/models/classifier.h"
#include "gpt/text/byte_bpe.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Names {
  std::optional<std::string> bos, eos, pad;
};

/// 0 and 1 are words; 2 to 5 are special; the tokenizer names those of `names`. 6 and 7 are in no vocabulary but the network's.
std::shared_ptr<const Tokenizer> tokenizer_with(const Names& names) {
  ByteBpeModel model;
  model.vocab = {{"a", 0}, {"b", 1}};
  for (const auto& [content, id] : {std::pair("<s>", 2), {"</s>", 3}, {"<pad>", 4}, {"<turn>", 5}})
    model.added_tokens.push_back({.content = content, .id = id});
  model.bos_token = names.bos;
  model.eos_token = names.eos;
  model.pad_token = names.pad;
  return std::make_shared<const ByteBpe>(std::move(model));
}

struct Ids {
  std::optional<TokenId> bos;
  std::vector<TokenId> eos;
  std::optional<TokenId> pad;
};

/// Of eight tokens.
Model model_with(const Ids& ids, const Names& names, const std::optional<std::string>& generation = {}) {
  Gpt2Config c = test::tiny_config();
  c.vocab_size = 8;
  c.bos_token_id = ids.bos;
  c.eos_token_id = ids.eos;
  c.pad_token_id = ids.pad;
  Model model = test::model_of(c, DType::f32, tokenizer_with(names));
  if (generation) model.set_generation_config(HfConfig::parse(*generation, "generation_config.json"));
  return model;
}

std::vector<std::string> align(Model& model) {
  std::vector<std::string> warnings;
  align_special_tokens(model, [&](std::string_view message) { warnings.emplace_back(message); });
  return warnings;
}

const Names kAll{"<s>", "</s>", "<pad>"};

TEST(SpecialTokens, BecomeTheTokenizers) {
  Model model = model_with({50256, {50256}, std::nullopt}, kAll);
  EXPECT_THAT(align(model), ElementsAreArray({"eos_token_id changes from 50256 to 3: the tokenizer's is 3",
                                              "bos_token_id changes from 50256 to 2: the tokenizer's is 2",
                                              "pad_token_id changes from null to 4: the tokenizer's is 4"}));
  const test::TempDir dir;
  model.save(dir.path());
  const HfConfig saved = HfConfig::load(dir / "config.json");
  EXPECT_EQ(saved.get_int("eos_token_id"), 3);
  EXPECT_EQ(saved.get_int("bos_token_id"), 2);
  EXPECT_EQ(saved.get_int("pad_token_id"), 4);
  EXPECT_FALSE(model.generation_config());  // no file comes into being
}

TEST(SpecialTokens, StayWhereTheyAgree) {
  const std::string generation =
      R"({"eos_token_id": [5, 3], "temperature": 0.5, "bos_token_id": 2, "pad_token_id": 4})";
  Model model = model_with({2, {5, 3}, 4}, kAll, generation);
  EXPECT_THAT(align(model), IsEmpty());
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({5, 3}));
  EXPECT_EQ(model.generation_config()->dump(), HfConfig::parse(generation, "").dump());
}

TEST(SpecialTokens, OfTheGenerationConfigKeepFormerEnds) {
  // 1 is a word in this vocabulary, 7 is nothing: both are another's.
  Model model = model_with({2, {3}, 4}, kAll,
                           R"({"bos_token_id": 1, "eos_token_id": [5, 1, 7, -1], "pad_token_id": null})");
  EXPECT_THAT(align(model),
              ElementsAreArray(
                  {"generation_config.json: eos_token_id changes from [5, 1, 7, -1] to [3, 5]: "
                   "the tokenizer's is 3",
                   "generation_config.json: bos_token_id changes from 1 to 2: the tokenizer's is 2",
                   "generation_config.json: pad_token_id changes from null to 4: the tokenizer's is 4"}));
  EXPECT_THAT(*model.generation_config()->get_int_list("eos_token_id"), ElementsAreArray({3, 5}));
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({3}));

  model = model_with({2, {3}, 4}, kAll, R"({"eos_token_id": 50256})");
  align(model);
  EXPECT_EQ(model.generation_config()->get_int("eos_token_id"), 3);
  model = model_with({2, {3}, 4}, kAll, R"({"eos_token_id": null})");  // no token ends a text
  align(model);
  EXPECT_EQ(model.generation_config()->get_int("eos_token_id"), 3);
}

TEST(SpecialTokens, ThatTheTokenizerDoesNotNameStayIfTheyAreSpecial) {
  Model model =
      model_with({2, {5, 1}, 6}, {}, R"({"bos_token_id": 50256, "eos_token_id": [0, 5], "pad_token_id": 4})");
  const std::string why = ": the tokenizer names none, and has no such special token";
  EXPECT_THAT(align(model),
              ElementsAreArray({"eos_token_id changes from [5, 1] to 5" + why,
                                "generation_config.json: eos_token_id changes from [0, 5] to 5" + why,
                                "generation_config.json: bos_token_id changes from 50256 to null" + why,
                                "pad_token_id changes from 6 to null" + why}));
  EXPECT_EQ(model.config().bos_token_id, 2);
  EXPECT_FALSE(model.config().pad_token_id);
  EXPECT_TRUE(model.generation_config()->is_null("bos_token_id"));
  EXPECT_EQ(model.generation_config()->get_int("pad_token_id"), 4);

  model = model_with({std::nullopt, {50256}, std::nullopt}, {});
  align(model);
  EXPECT_THAT(model.config().eos_token_id, IsEmpty());
}

TEST(SpecialTokens, WithoutARowInTheNetworkAreNone) {
  Model model = model_with({2, {3}, 4}, kAll);
  ByteBpeModel large = dynamic_cast<const ByteBpe&>(model.tokenizer()).model();
  large.added_tokens.push_back({.content = "<beyond>", .id = 8});
  large.eos_token = large.bos_token = large.pad_token = "<beyond>";
  model.set_tokenizer(std::make_shared<const ByteBpe>(std::move(large)));
  const std::string why = ": the tokenizer's is 8, outside the vocabulary [0, 8)";
  EXPECT_THAT(align(model), ElementsAreArray({"eos_token_id stays 3" + why, "bos_token_id stays 2" + why,
                                              "pad_token_id stays 4" + why}));
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({3}));
  model.network().set_special_tokens(8, {3, 8}, 8);  // as many checkpoints have it
  EXPECT_THAT(align(model), IsEmpty());
  EXPECT_EQ(model.config().pad_token_id, 8);
  model.network().set_special_tokens(8, {8}, 9);
  EXPECT_THAT(align(model), ElementsAreArray({"pad_token_id changes from 9 to null" + why}));
  EXPECT_FALSE(model.config().pad_token_id);
}

TEST(SpecialTokens, BesideTheTokenizersAreSpecialOnes) {
  // It is among them; the others are a word, nothing, and twice the same.
  Model model =
      model_with({2, {5, 0, 3, 5, 7}, 4}, kAll,
                 R"({"bos_token_id": [5, 2], "eos_token_id": [1, 3, 3], "pad_token_id": [4, 4, 1]})");
  align(model);
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({5, 3}));
  EXPECT_EQ(model.generation_config()->dump(),
            "{\n  \"bos_token_id\": 2,\n  \"eos_token_id\": 3,\n  \"pad_token_id\": 4\n}\n");
}

TEST(SpecialTokens, AreAddedToAGenerationConfigWithoutThem) {
  // transformers takes none from config.json then: its texts would not end.
  Model model = model_with({2, {5, 3}, 4}, kAll, R"({"temperature": 0.5})");
  EXPECT_THAT(align(model),
              ElementsAreArray(
                  {"generation_config.json: eos_token_id changes from null to [5, 3]: the tokenizer's is 3",
                   "generation_config.json: bos_token_id changes from null to 2: the tokenizer's is 2",
                   "generation_config.json: pad_token_id changes from null to 4: the tokenizer's is 4"}));
  EXPECT_THAT(*model.generation_config()->get_int_list("eos_token_id"), ElementsAreArray({5, 3}));
  model = model_with({2, {5}, 4}, {}, R"({"temperature": 0.5})");  // nor does the tokenizer name any
  EXPECT_THAT(align(model), IsEmpty());
  EXPECT_FALSE(model.generation_config()->has("eos_token_id"));
}

TEST(SpecialTokens, StayWhereAWarningThrows) {
  Model model = model_with({7, {7}, 7}, kAll, R"({"eos_token_id": 7})");
  EXPECT_THROW(align_special_tokens(model, [](std::string_view) { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({7}));
  EXPECT_EQ(model.generation_config()->get_int("eos_token_id"), 7);
}

TEST(SpecialTokens, OfAClassifierAreItsModels) {
  Classifier classifier(model_with({7, {7}, 7}, kAll), {"good", "bad"});
  EXPECT_EQ(classifier.pad_token_id(), 7);
  align_special_tokens(classifier.model());
  EXPECT_EQ(classifier.pad_token_id(), 4);
  EXPECT_EQ(classifier.used(std::vector<TokenId>{0, 7, 4, 4}).size(), 2u);
  const test::TempDir dir;
  classifier.save(dir.path());
  EXPECT_EQ(Classifier::load(dir.path()).pad_token_id(), 4);
}

TEST(SpecialTokens, OfACopyStay) {
  Model model = model_with({7, {7}, 7}, kAll, R"({"eos_token_id": 7})");
  const Model copy = model;
  align(model);
  EXPECT_EQ(copy.config().bos_token_id, 7);
  EXPECT_EQ(copy.generation_config()->get_int("eos_token_id"), 7);
}

TEST(SpecialTokens, NeedATokenizerAndIntegers) {
  Model model = model_with({7, {7}, 7}, kAll, R"({"bos_token_id": "<s>"})");
  expect_error<FormatError>([&] { align_special_tokens(model); }, {"generation_config.json", "bos_token_id"});
  EXPECT_THAT(model.config().eos_token_id, ElementsAreArray({7}));  // as it was
  model.set_tokenizer(nullptr);
  expect_error<UnsupportedError>([&] { align_special_tokens(model); }, {"no tokenizer"});
}

}  // namespace
}  // namespace gpt
