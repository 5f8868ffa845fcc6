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

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

std::vector<std::vector<TokenId>> breakers(const std::vector<std::string>& texts) {
  return dry_breakers(test::TinyTokenizer(), texts);
}

// Of the tokens, 0..25 are a..z, 94 is "the " and 96 is "<end>".
TEST(DryBreakers, AreTheTokensThatHoldTheText) {
  EXPECT_THAT(breakers({"b"}), ElementsAreArray({ElementsAreArray({1})}));
  EXPECT_THAT(breakers({"e"}),
              ElementsAreArray({ElementsAreArray({4}), ElementsAreArray({94}), ElementsAreArray({96})}));
  EXPECT_THAT(breakers({"he"}), ElementsAreArray({ElementsAreArray({7, 4}), ElementsAreArray({94})}));
  EXPECT_THAT(breakers({"b", "z"}), ElementsAreArray({ElementsAreArray({1}), ElementsAreArray({25})}));
  EXPECT_THAT(breakers({"\n"}), IsEmpty());
  EXPECT_THAT(breakers({}), IsEmpty());
}

TEST(DryBreakers, MayBeginAtTheEndOfATokenAndGoOnInOthers) {
  EXPECT_THAT(breakers({"e a"}), ElementsAreArray({ElementsAreArray({94, 0})}));  // " a" alone has no tokens
  EXPECT_THAT(breakers({"abc"}), ElementsAreArray({ElementsAreArray({0, 1, 2})}));
  EXPECT_THAT(breakers({" the "}), ElementsAreArray({ElementsAreArray({94, 94})}));
}

// Byte tokens, with "<s>" before every text and a special token "b".
TEST(DryBreakers, AreEncodedAsTextInsideAnother) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "<s>"}, {.content = "b"}};
  model.prefix_tokens = {"<s>"};
  const std::vector<std::string> texts{"ab"};
  EXPECT_THAT(dry_breakers(ByteBpe(model), texts), ElementsAreArray({ElementsAreArray({'a', 'b'})}));
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
  EXPECT_THAT(dry_breakers(ByteBpe(model), texts),
              ElementsAreArray({ElementsAreArray({TokenId{'b'}}), ElementsAreArray({(1 << 21) - 1})}));
}

TEST(DryBreakers, OfLlamaCppAreFour) {
  EXPECT_THAT(default_dry_breakers(), ElementsAreArray({"\n", ":", "\"", "*"}));
}

}  // namespace
}  // namespace gpt::generate
