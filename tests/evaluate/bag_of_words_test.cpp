#include "gpt/evaluate/bag_of_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "evaluate/minimize.h"
#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::HasSubstr;

/// Texts of which the words, or the order of two words, tell the class.
struct Texts {
  std::vector<std::string_view> texts{"good film",           "a GOOD movie",
                                      "not bad at all",      "bad film",
                                      "a bad movie",         "not good at all",
                                      "\u597d\u770b",        "\u4e0d\u597d\u770b",
                                      "\u597d\u770b \u5427", "\u4e0d\u597d\u770b \u5427"};
  std::vector<std::int32_t> classes{1, 1, 1, 0, 0, 0, 1, 0, 1, 0};
};

TEST(BagOfWords, LearnsWordsPairsAndCharacters) {
  const Texts data;
  const BagOfWords words = BagOfWords::train(data.texts, data.classes, 2, {.min_frequency = 1});
  for (std::size_t i = 0; i < data.texts.size(); ++i)
    EXPECT_GT(words.probabilities(data.texts[i])[static_cast<std::size_t>(data.classes[i])], 0.5)
        << data.texts[i];
  const auto p = words.probabilities("Good!");
  EXPECT_NEAR(p[0] + p[1], 1, 1e-15);
  EXPECT_EQ(words.probabilities("good"), p);
  // Words that it does not know leave the biases, which are near the classes' shares.
  EXPECT_NEAR(words.probabilities("unheard of")[1], 0.5, 0.1);
}

TEST(BagOfWords, ComesBackFromAFile) {
  const test::TempDir directory;
  const Texts data;
  const BagOfWords words = BagOfWords::train(data.texts, data.classes, 2, {.min_frequency = 1});
  words.save(directory / "w.safetensors");
  const BagOfWords loaded = BagOfWords::load(directory / "w.safetensors");
  EXPECT_EQ(loaded.feature_count(), words.feature_count());
  for (const std::string_view text : data.texts)
    EXPECT_EQ(loaded.probabilities(text), words.probabilities(text));
}

TEST(BagOfWords, LeavesOutWhatIsRare) {
  const Texts data;
  // "film" and "movie" are in two texts each, "at all" in two; "not bad" in one.
  const auto once = BagOfWords::train(data.texts, data.classes, 2, {.min_frequency = 1});
  const auto twice = BagOfWords::train(data.texts, data.classes, 2, {.min_frequency = 2});
  EXPECT_GT(once.feature_count(), twice.feature_count());
}

TEST(BagOfWords, NamesWhatItCannotLearnFrom) {
  const Texts data;
  const auto train = [&](std::span<const std::int32_t> classes, std::int64_t count,
                         BagOfWordsOptions options = {}) {
    return message_of<ArgumentError>([&] { BagOfWords::train(data.texts, classes, count, options); });
  };
  EXPECT_THAT(train(std::span(data.classes).first(3), 2), HasSubstr("3 classes for 10 texts"));
  EXPECT_THAT(train(data.classes, 1), HasSubstr("class 1 is outside [0, 1)"));
  EXPECT_THAT(train(data.classes, 2, {.inverse_penalty = 0}), HasSubstr("inverse_penalty is 0"));
}

// Rosenbrock's function is hard for methods that know no curvature; its minimum is 0 at (1, 1).
TEST(Minimize, FindsTheMinimumOfACurvedValley) {
  const auto f = [](std::span<const double> x, std::span<double> g) {
    const double a = 1 - x[0], b = x[1] - x[0] * x[0];
    g[0] = -2 * a - 400 * x[0] * b;
    g[1] = 200 * b;
    return a * a + 100 * b * b;
  };
  std::vector<double> x{-1.2, 1};
  minimize(f, x, 200);
  EXPECT_NEAR(x[0], 1, 1e-6);
  EXPECT_NEAR(x[1], 1, 1e-6);
}

}  // namespace
}  // namespace gpt
