#include "generate/dry_breakers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/text/byte_bpe.h"
#include "text/small_bpe.h"

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

// Byte tokens, with "<s>" before every text and a special token "b".
TEST(DryBreakers, AreEncodedAsTextInsideAnother) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "<s>"}, {.content = "b"}};
  model.prefix_tokens = {"<s>"};
  const std::vector<std::string> texts{"ab"};
  EXPECT_THAT(dry_breakers(ByteBpe(model), texts), ElementsAre(ElementsAre('a', 'b')));
}

TEST(DryBreakers, AreCutToFortyBytesAndTwentyTokensBehindOne) {
  const auto whole = breakers({std::string(39, 'a') + "bc"});
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_EQ(whole[0], std::vector<TokenId>(21, 0));
  EXPECT_EQ(breakers({std::string(40, 'b')}), breakers({std::string(41, 'b')}));
}

TEST(DryBreakers, PassOverIdsWithoutAToken) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "xb", .id = (1 << 21) - 1}};
  const std::vector<std::string> texts{"b"};
  EXPECT_THAT(dry_breakers(ByteBpe(model), texts), ElementsAre(ElementsAre('b'), ElementsAre((1 << 21) - 1)));
}

TEST(DryBreakers, OfLlamaCppAreFour) {
  EXPECT_THAT(default_dry_breakers(), ElementsAre("\n", ":", "\"", "*"));
}

}  // namespace
}  // namespace gpt::generate
