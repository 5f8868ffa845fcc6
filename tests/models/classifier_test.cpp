// A classifier's bits, its files and its loss. Logits, losses and gradients are compared with PyTorch's by golden_check.
#include "gpt/models/classifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "gpt/io/safetensors.h"
#include "gpt/train/parameters.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"
#include "tiny_models.h"

namespace gpt {
namespace {

using test::message_of;
using test::model_of;
using test::same_bits;
using test::tiny_config;
using test::tokens;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Classifier tiny_classifier(ProblemType type = ProblemType::kSingleLabel) {
  return {model_of(tiny_config()), {"good", "bad", "neither"}, type, 5};
}

Tensor row_of(const Tensor& matrix, std::int64_t row) {
  Tensor copy = Tensor::empty({1, matrix.dim(1)});
  std::copy_n(matrix.data<float>() + row * matrix.dim(1), matrix.dim(1), copy.data<float>());
  return copy;
}

/// Loss and gradients of a batch.
struct LearnedClasses {
  LossSum sum;
  std::vector<Tensor> gradients;

  LearnedClasses(Classifier& classifier, std::span<const TargetedSequence> batch,
                 ClassificationLossOptions options) {
    const Parameters parameters(classifier.model().network(), {}, DType::f32,
                                [&](const auto& f) { classifier.visit_head(f); });
    Tape tape;
    parameters.watch(tape);
    Arena arena;
    options.tape = &tape;
    sum = classification_loss(classifier, batch, arena, options);
    tape.backward();
    for (const Parameter& p : parameters.all()) {
      gradients.push_back(Tensor::empty(p.gradient.shape()));
      std::ranges::copy(p.gradient.span<float>(), gradients.back().data<float>());
    }
  }
};

bool same_gradients(const LearnedClasses& a, const LearnedClasses& b) {
  return std::ranges::equal(a.gradients, b.gradients,
                            [](const Tensor& x, const Tensor& y) { return same_bits(x, y); });
}

TEST(Classifier, GivesASequenceTheBitsOfTheSequenceAlone) {
  const Classifier classifier = tiny_classifier();
  const std::vector<std::vector<TokenId>> texts{tokens(7, 3), tokens(21, 8), tokens(1, 5), tokens(12, 2)};
  const Tensor together = classifier.logits(texts);
  ASSERT_EQ(together.shape(), (Shape{4, 3}));
  for (std::size_t i = 0; i < texts.size(); ++i)
    EXPECT_TRUE(same_bits(row_of(together, static_cast<std::int64_t>(i)), classifier.logits({&texts[i], 1})));
}

TEST(Classifier, DoesNotSeeThePaddingBehindAText) {
  Gpt2Config config = tiny_config();
  config.pad_token_id = 96;
  const Classifier classifier(model_of(config), {"a", "b"});
  const std::vector<TokenId> text = tokens(5);
  std::vector<TokenId> padded = text, inside = text;
  padded.insert(padded.end(), 3, 96);
  inside[2] = 96;
  EXPECT_TRUE(same_bits(classifier.logits({&text, 1}), classifier.logits({&padded, 1})));
  EXPECT_FALSE(same_bits(classifier.logits({&text, 1}), classifier.logits({&inside, 1})));
  const std::vector<TokenId> only_padding(4, 96), one(1, 96);
  EXPECT_TRUE(same_bits(classifier.logits({&only_padding, 1}), classifier.logits({&one, 1})));
}

TEST(Classifier, TakesTheModelsEndOfTextForPaddingWhereThereIsNone) {
  Gpt2Config config = tiny_config();
  config.pad_token_id = {};
  config.eos_token_id = {11, 12};
  EXPECT_EQ(Classifier(model_of(config), {"a", "b"}).pad_token_id(), 11);
  config.eos_token_id = {};
  EXPECT_EQ(Classifier(model_of(config), {"a", "b"}).pad_token_id(), std::nullopt);
}

TEST(Classifier, HasThePaddingOfItsModel) {
  Classifier classifier(model_of(tiny_config()), {"a", "b"});
  classifier.model().network().set_special_tokens({}, {11}, 12);
  EXPECT_EQ(classifier.pad_token_id(), 12);
  const test::TempDir directory;
  classifier.save(directory / "c");
  EXPECT_EQ(Classifier::load(directory / "c").pad_token_id(), 12);
}

TEST(Classifier, IsSavedAndLoadedWithItsBits) {
  const test::TempDir directory;
  const Classifier saved = tiny_classifier(ProblemType::kMultiLabel);
  saved.save(directory / "c");
  std::vector<std::string> warnings;
  const Classifier loaded = Classifier::load(
      directory / "c", {.on_warning = [&](std::string_view w) { warnings.emplace_back(w); }});
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_THAT(loaded.labels(), ElementsAreArray({"good", "bad", "neither"}));
  EXPECT_EQ(loaded.problem_type(), ProblemType::kMultiLabel);
  EXPECT_EQ(loaded.pad_token_id(), saved.pad_token_id());
  const std::vector<TokenId> text = tokens(9);
  EXPECT_TRUE(same_bits(saved.logits({&text, 1}), loaded.logits({&text, 1})));

  const HfConfig config = HfConfig::load(directory / "c" / "config.json");
  EXPECT_THAT(*config.get_string_list("architectures"), ElementsAreArray({"GPT2ForSequenceClassification"}));
  EXPECT_EQ(config.get_string("problem_type"), "multi_label_classification");
  EXPECT_EQ(config.get_string_map("id2label")->at(2), std::pair(std::string("2"), std::string("neither")));
  EXPECT_EQ(config.get_int_map("label2id")->at(1), std::pair(std::string("bad"), std::int64_t{1}));
  const Checkpoint weights(directory / "c");
  EXPECT_EQ(weights.info("score.weight").shape, (Shape{3, 16}));
  EXPECT_TRUE(weights.contains("transformer.wte.weight"));
  EXPECT_FALSE(weights.contains("lm_head.weight"));
}

TEST(Classifier, LeavesTheLanguageModelsOwnHeadBehind) {
  Gpt2Config config = tiny_config();
  config.tie_word_embeddings = false;
  const Classifier classifier(model_of(config), {"a", "b"}, ProblemType::kSingleLabel, 3);
  classifier.model().network().visit([](const std::string& name, const auto&, const auto&...) {
    EXPECT_THAT(name, testing::Not(HasSubstr("lm_head")));
  });
  const Classifier tied(model_of(tiny_config()), {"a", "b"}, ProblemType::kSingleLabel, 3);
  const std::vector<TokenId> text = tokens(9);
  EXPECT_TRUE(same_bits(classifier.logits({&text, 1}), tied.logits({&text, 1})));
}

TEST(Classifier, LoadsACheckpointOfAnUntiedModelThatHasNoHeadButItsOwn) {
  const test::TempDir directory;
  tiny_classifier().save(directory / "c");
  HfConfig config = HfConfig::load(directory / "c" / "config.json");
  config.set_bool("tie_word_embeddings", false);
  config.save(directory / "c" / "config.json");
  const std::vector<TokenId> text = tokens(9);
  EXPECT_TRUE(
      same_bits(tiny_classifier().logits({&text, 1}), Classifier::load(directory / "c").logits({&text, 1})));
}

// transformers' config.json may say so; its label2id is a dict, in which the last stays.
TEST(Classifier, MayHaveTwoLabelsOfOneName) {
  const test::TempDir directory;
  tiny_classifier().save(directory / "a");
  HfConfig config = HfConfig::load(directory / "a" / "config.json");
  const HfConfig::MapOf<std::string> names{{"0", "x"}, {"1", "x"}, {"2", "y"}};
  config.set_string_map("id2label", names);
  config.save(directory / "a" / "config.json");
  const Classifier loaded = Classifier::load(directory / "a");
  EXPECT_THAT(loaded.labels(), ElementsAreArray({"x", "x", "y"}));
  loaded.save(directory / "b");
  EXPECT_THAT(Classifier::load(directory / "b").labels(), ElementsAreArray({"x", "x", "y"}));
  EXPECT_THAT(*HfConfig::load(directory / "b" / "config.json").get_int_map("label2id"),
              ElementsAreArray({std::pair<std::string, std::int64_t>("x", 1),
                                std::pair<std::string, std::int64_t>("y", 2)}));
}

TEST(Classifier, NamesWhatIsNoNumber) {
  Classifier classifier = tiny_classifier();
  const std::vector<std::vector<TokenId>> texts{tokens(3), tokens(4)};
  classifier.score().values.data<float>()[17] = std::nanf("");
  EXPECT_THAT(message_of<NumericError>([&] { classifier.logits(texts); }),
              HasSubstr("a logit of sequence 0 is nan; parameter score.weight: element [1, 1] is nan"));
}

TEST(Classifier, NamesWhatIsWrongWithItsFiles) {
  const test::TempDir directory;
  const auto message_with = [&](auto edit) {
    tiny_classifier().save(directory / "c");
    HfConfig config = HfConfig::load(directory / "c" / "config.json");
    edit(config);
    config.save(directory / "c" / "config.json");
    try {
      Classifier::load(directory / "c");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  EXPECT_THAT(message_with([](HfConfig& c) { c.set_string("problem_type", "ranking"); }),
              HasSubstr("problem_type is \"ranking\""));
  EXPECT_THAT(message_with([](HfConfig& c) {
                c.set_string_map("id2label", {{"0", "a"}, {"2", "b"}});
              }),
              HasSubstr("id2label has the key \"2\""));
  EXPECT_THAT(message_with([](HfConfig& c) {
                c.erase("id2label");
                c.set_int("num_labels", 4);
              }),
              HasSubstr("score.weight has shape [3, 16], expected [4, 16]"));
  model_of(tiny_config()).save(directory / "lm");
  EXPECT_THAT(message_of<FormatError>([&] { Classifier::load(directory / "lm"); }),
              HasSubstr("score.weight is missing"));
}

TEST(Classifier, RefusesLabelsThatTellNothingApart) {
  const auto make = [](std::vector<std::string> labels) {
    return message_of<ArgumentError>([&] { Classifier(model_of(tiny_config()), labels); });
  };
  EXPECT_THAT(make({}), HasSubstr("no labels"));
  EXPECT_THAT(make({"a"}), HasSubstr("only the label a"));
  EXPECT_THAT(make({"a", "b", "a"}), HasSubstr("same name"));
  EXPECT_EQ(Classifier(model_of(tiny_config()), {"y"}, ProblemType::kRegression).num_labels(), 1);
}

TEST(ClassificationLoss, IsTheSumOverSequencesWhateverTheBatch) {
  const auto a = tokens(7), b = tokens(12, 9);
  for (const ProblemType type :
       {ProblemType::kSingleLabel, ProblemType::kMultiLabel, ProblemType::kRegression}) {
    const Classifier classifier = tiny_classifier(type);
    const bool single = type == ProblemType::kSingleLabel;
    const std::vector<float> one = single ? std::vector{2.0f} : std::vector{1.0f, 0.0f, 0.5f};
    const std::vector<float> two = single ? std::vector{0.0f} : std::vector{0.0f, 0.0f, 1.0f};
    const std::vector<TargetedSequence> both{{a, one}, {b, two}};
    std::vector<LossSum> each(2);
    Tensor logits = Tensor::empty({2, 3});
    Arena arena;
    const LossSum sum =
        classification_loss(classifier, both, arena, {.per_sequence = each, .logits = logits});
    EXPECT_EQ(sum.count, single ? 2 : 6);
    EXPECT_EQ(sum.sum, each[0].sum + each[1].sum);
    EXPECT_EQ(classification_loss(classifier, {&both[1], 1}, arena).sum, each[1].sum);
    EXPECT_TRUE(same_bits(logits, classifier.logits(std::vector{a, b})));
  }
}

TEST(ClassificationLoss, CountsALabelByItsWeight) {
  Classifier classifier = tiny_classifier();
  const auto ids = tokens(7);
  const std::vector<float> second{1};
  const TargetedSequence sequence{ids, second};
  const double weights[] = {1, 4, 1};
  const LearnedClasses plain(classifier, {&sequence, 1}, {.scale = 1});
  const LearnedClasses weighted(classifier, {&sequence, 1}, {.scale = 0.25, .class_weights = weights});
  EXPECT_EQ(weighted.sum.sum, 4 * plain.sum.sum);
  EXPECT_EQ(weighted.sum.count, 1);
  EXPECT_TRUE(same_gradients(plain, weighted));  // powers of two: no rounding
}

TEST(ClassificationLoss, NamesTargetsThatAreNone) {
  const auto ids = tokens(7);
  const auto with = [&](ProblemType type, std::vector<float> targets) {
    const Classifier classifier = tiny_classifier(type);
    const TargetedSequence sequence{ids, targets};
    Arena arena;
    return message_of<ArgumentError>([&] { classification_loss(classifier, {&sequence, 1}, arena); });
  };
  EXPECT_THAT(with(ProblemType::kSingleLabel, {3}),
              HasSubstr("is 3, expected the number of a label below 3"));
  EXPECT_THAT(with(ProblemType::kSingleLabel, {0.5f}), HasSubstr("is 0.5"));
  EXPECT_THAT(with(ProblemType::kSingleLabel, {0, 1, 0}), HasSubstr("has 3 targets, expected 1"));
  EXPECT_THAT(with(ProblemType::kMultiLabel, {0, 1, 2}), HasSubstr("expected 0 to 1"));
  EXPECT_THAT(with(ProblemType::kRegression, {0, 1, NAN}), HasSubstr("expected a number"));
  EXPECT_THAT(with(ProblemType::kRegression, {0}), HasSubstr("has 1 targets, expected 3"));
}

TEST(Probabilities, AreTheSoftmaxOrTheSigmoids) {
  const float logits[] = {0.0f, 1.0f};
  const double e = std::exp(1.0);
  const std::vector<double> p = probabilities(ProblemType::kSingleLabel, logits);
  EXPECT_NEAR(p[1], e / (1 + e), 1e-15);
  EXPECT_NEAR(p[0] + p[1], 1, 1e-15);
  EXPECT_NEAR(probabilities(ProblemType::kSingleLabel, logits, 0.5)[1], e * e / (1 + e * e), 1e-15);
  const std::vector<double> s = probabilities(ProblemType::kMultiLabel, logits);
  EXPECT_EQ(s[0], 0.5);
  EXPECT_NEAR(s[1], e / (1 + e), 1e-15);
  EXPECT_THAT(probabilities(ProblemType::kRegression, logits), ElementsAreArray({0, 1}));
  const float far[] = {-800.0f, 800.0f};
  EXPECT_THAT(probabilities(ProblemType::kMultiLabel, far), ElementsAreArray({0, 1}));
}

}  // namespace
}  // namespace gpt
