#include "generate/dry_breakers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "generate/tiny_model.h"

namespace gpt::generate {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::vector<TokenId>> breakers(const std::vector<std::string>& texts) {
  return dry_breakers(test::TinyTokenizer(), texts);
}

// Of the tokens, 0..25 are a..z, 94 is "the " and 96 is "<end>".
TEST(DryBreakers, AreTheTokensThatHoldTheText) {
  EXPECT_THAT(breakers({"b"}), ElementsAre(ElementsAre(1)));
  EXPECT_THAT(breakers({"e"}), ElementsAre(ElementsAre(4), ElementsAre(94), ElementsAre(96)));
  EXPECT_THAT(breakers({"he"}), ElementsAre(ElementsAre(7, 4), ElementsAre(94)));
  EXPECT_THAT(breakers({"b", "z"}), ElementsAre(ElementsAre(1), ElementsAre(25)));
  EXPECT_THAT(breakers({"\n"}), IsEmpty());
  EXPECT_THAT(breakers({}), IsEmpty());
}

TEST(DryBreakers, MayBeginAtTheEndOfATokenAndGoOnInOthers) {
  EXPECT_THAT(breakers({"e a"}), ElementsAre(ElementsAre(94, 0)));  // " a" alone has no tokens
  EXPECT_THAT(breakers({"abc"}), ElementsAre(ElementsAre(0, 1, 2)));
  EXPECT_THAT(breakers({" the "}), ElementsAre(ElementsAre(94, 94)));
}

TEST(DryBreakers, OfLlamaCppAreFour) {
  EXPECT_THAT(default_dry_breakers(), ElementsAre("\n", ":", "\"", "*"));
}

}  // namespace
}  // namespace gpt::generate
