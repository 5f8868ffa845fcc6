// What gpt-classify says of texts, and of what that is made.
#include "examples/judgement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/gpt.h"

namespace program {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr std::string_view kTexts[] = {"sweet music"};

Member member_with(gpt::Blend blend) {
  Member member{gpt::Classifier(
      gpt::Model::load(std::filesystem::path(GPT_SOURCE_DIR) / "examples/models/demo"), {"bad", "good"})};
  member.settings.blend = blend;
  const std::vector<std::string_view> texts = {"sweet music", "bitter poison", "sweet music",
                                               "bitter poison"};
  member.words = gpt::BagOfWords::train(texts, std::vector<std::int32_t>{1, 0, 1, 0}, 2);
  return member;
}

gpt::Tensor logits_of(float bad, float good) {
  gpt::Tensor logits = gpt::Tensor::empty({1, 2});
  logits.data<float>()[0] = bad;
  logits.data<float>()[1] = good;
  return logits;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One that no words speak for is its network alone, as it was calibrated.
TEST(Answers, OfNetworksAloneHaveTheTemperatureOfThoseWithoutWords) {
  std::vector<Member> members;
  members.push_back(member_with({.temperature = 2, .weight = 0}));
  members.push_back(member_with({.temperature = 3, .weight = 1}));
  const gpt::Tensor logits[] = {logits_of(0, 2), logits_of(2, 0)};
  const Answers answers = answers_of(members, logits, kTexts);
  const double good = (sigmoid(1) + sigmoid(-2)) / 2;
  EXPECT_THAT(answers.network, ElementsAreArray({DoubleNear(1 - good, 1e-7), DoubleNear(good, 1e-7)}));
  EXPECT_GT(answers.together[1], good);  // by the words of the second
  const Answers alone = answers_of(std::span(members).first(1), std::span(logits).first(1), kTexts);
  EXPECT_THAT(alone.together,
              ElementsAreArray({DoubleNear(sigmoid(-1), 1e-7), DoubleNear(sigmoid(1), 1e-7)}));
  EXPECT_THAT(alone.network, IsEmpty());
}

// A config.json may have several labels of one name; what is said of each keeps a place of its own.
TEST(Labels, AreKeysEachOfItsOwn) {
  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys_of(Keys{"a", "b"}), (Keys{"a", "b"}));
  EXPECT_EQ(keys_of(Keys{"x", "y", "x"}), (Keys{"x (0)", "y", "x (2)"}));
  EXPECT_EQ(keys_of(Keys{"x", "x", "x (0)"}), (Keys{"x (0) (0)", "x (1)", "x (0)"}));
}

}  // namespace
}  // namespace program
