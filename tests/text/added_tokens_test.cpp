#include <gtest/gtest.h>

#include "gpt/text/byte_bpe.h"
#include "text/added_tokens.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;

// The added tokens get the ids 256, 257, ...
ByteBpe with_tokens(std::vector<AddedToken> tokens) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = std::move(tokens);
  return ByteBpe(std::move(model));
}

TEST(AddedTokens, AreFoundAtEveryOccurrence) {
  const ByteBpe tokenizer = with_tokens({{.content = "<x>"}});
  EXPECT_EQ(tokenizer.encode("<x><x>a<x"), (Ids{256, 256, 'a', '<', 'x'}));
  EXPECT_EQ(tokenizer.encode("<<x>>"), (Ids{'<', 256, '>'}));
}

TEST(AddedTokens, TheLongestAtTheLeftmostPlaceWins) {
  const ByteBpe tokenizer = with_tokens({{.content = "<x>"}, {.content = "<x>y"}, {.content = ">yz"}});
  EXPECT_EQ(tokenizer.encode("<x>yz"), (Ids{257, 'z'}));
  EXPECT_EQ(tokenizer.encode("<x>z"), (Ids{256, 'z'}));
  EXPECT_EQ(tokenizer.encode("x>yz"), (Ids{'x', 258}));
}

TEST(AddedTokens, SpecialOnesAreTextOnRequestAndOthersNever) {
  const ByteBpe tokenizer = with_tokens({{.content = "<s>"}, {.content = "<n>", .special = false}});
  EXPECT_EQ(tokenizer.encode("<s><n>"), (Ids{256, 257}));
  EXPECT_EQ(tokenizer.encode("<s><n>", {.parse_special_tokens = false}), (Ids{'<', 's', '>', 257}));
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special(257));
  EXPECT_EQ(tokenizer.decode(Ids{256, 257}, {.skip_special_tokens = true}), "<n>");
}

TEST(AddedTokens, StripTheWhiteSpaceTheyAskFor) {
  const ByteBpe tokenizer = with_tokens({{.content = "<l>", .lstrip = true},
                                         {.content = "<r>", .rstrip = true},
                                         {.content = "<b>", .lstrip = true, .rstrip = true}});
  EXPECT_EQ(tokenizer.encode("a \u00A0\n<l> b"), (Ids{'a', 256, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("a <r> \t\u3000b"), (Ids{'a', ' ', 257, 'b'}));
  EXPECT_EQ(tokenizer.encode(" <b> <b> "), (Ids{258, 258}));
  EXPECT_EQ(tokenizer.encode("\xA0<l>"), (Ids{0xA0, 256}));  // a stray byte is no white space
  EXPECT_EQ(tokenizer.encode("\x1C<l>"), (Ids{0x1C, 256}));
}

TEST(AddedTokens, LookAtWhiteSpaceOnceWhenTheyAreWhiteSpaceThemselves) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += " \u00A0\u3000 ";
  for (const bool left : {false, true})
    for (const bool right : {false, true}) {
      AddedTokenFinder finder;
      finder.add({.content = " ", .id = 1, .lstrip = left, .rstrip = right});
      finder.add({.content = "\u3000", .id = 2, .lstrip = left, .rstrip = right});
      std::size_t stripped = 0;
      const std::vector<AddedTokenFinder::Part> parts = finder.split(text, true, &stripped);
      std::size_t tokens = 0;
      for (const AddedTokenFinder::Part& part : parts) tokens += part.id >= 0;
      EXPECT_EQ(tokens, 1500u);
      EXPECT_EQ(parts.size(), left || right ? 1500u : 2000u);
      EXPECT_LE(stripped, 4000u);  // twice the text's
    }
}

TEST(AddedTokens, SingleWordsStandAlone) {
  const ByteBpe tokenizer = with_tokens({{.content = "it", .single_word = true}});
  EXPECT_EQ(tokenizer.encode("it"), (Ids{256}));
  EXPECT_EQ(tokenizer.encode("bit"), (Ids{'b', 'i', 't'}));
  EXPECT_EQ(tokenizer.encode("its"), (Ids{'i', 't', 's'}));
  EXPECT_EQ(tokenizer.encode("it_"), (Ids{'i', 't', '_'}));
  EXPECT_EQ(tokenizer.encode("é"), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(tokenizer.encode("éit"), (Ids{0xC3, 0xA9, 'i', 't'}));
  EXPECT_EQ(tokenizer.encode("-it!"), (Ids{'-', 256, '!'}));
}

TEST(AddedTokens, NormalizedOnesAreLookedForBetweenTheOthers) {
  const ByteBpe tokenizer = with_tokens({{.content = "abc", .normalized = true}, {.content = "cd"}});
  EXPECT_EQ(tokenizer.encode("abcd"), (Ids{'a', 'b', 257}));  // although abc begins further left
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{256}));
}

TEST(AddedTokens, StandForWhatIsWritten) {
  const ByteBpe tokenizer = with_tokens({{.content = "naïve Ġ"}});
  EXPECT_EQ(tokenizer.encode("naïve Ġ"), (Ids{256}));
  EXPECT_EQ(tokenizer.decode(Ids{256}), "naïve Ġ");
  EXPECT_EQ(tokenizer.id_of("naïve Ġ"), 256);
}

TEST(AddedTokens, MayBePartOfTheVocabulary) {
  ByteBpeModel model = test::small_bpe_model();
  model.vocab.emplace_back("<end>", 256);
  model.added_tokens = {{.content = "<end>"}, {.content = "<more>"}};
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.encode("<end><more>"), (Ids{256, 257}));
  EXPECT_EQ(tokenizer.vocab_size(), 258);
}

}  // namespace
}  // namespace gpt
