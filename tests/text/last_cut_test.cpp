// Places where a text can be cut without changing its tokens.
#include <gtest/gtest.h>

#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/utf8.h"
#include "text/golden_files.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::small_bpe_model;

// Parts of texts that decide where pieces and added tokens end, also broken ones.
constexpr std::string_view kParts[] = {
    " ",      " ",    "\n",       "\t",     "\r\n", "a",    "b",      "s",      "e",   "l",    "'",  "'s",
    "'ll",    "'re",  "1",        "2",      "!",    ".",    "\u00A0", "\u3000", "é",   "世",   "。", "½",
    "\xE4",   "\xB8", "\xE4\xB8", "\xF0",   "\x9F", "\x80", "\xFF",   "\xC2",   "<s>", "<s>b", "<",  "<s",
    "<left>", "<r",   "<right>",  "<word>", "word", "ba",   "<word",  ">",      "_",   "😀",    "ab", "\0x"};

std::string nasty_text(std::uint64_t seed, int parts) {
  const CounterRng rng(seed);
  std::string text;
  for (int i = 0; i < parts; ++i) text += kParts[rng.bits(static_cast<std::uint64_t>(i)) % std::size(kParts)];
  return text;
}

// Any two of these bytes merge where they meet, so that a piece cut in two shows.
ByteBpeModel merging_model() {
  const std::string_view text = " \n\t\rabsel'12!.<>_wordghtif\xC2\xA0\xE3\x80\xA9\xE4\xB8\x96\xF0\x9F\xFF";
  const std::set<char> bytes(text.begin(), text.end());
  std::vector<std::pair<std::string, std::string>> merges;
  for (const char left : bytes)
    for (const char right : bytes) merges.emplace_back(std::string(1, left), std::string(1, right));
  return small_bpe_model(merges);
}

std::vector<AddedToken> added_tokens() {
  return {{.content = "<s>"},
          {.content = "<s>b"},
          {.content = "<left>", .lstrip = true},
          {.content = "<right>", .special = false, .rstrip = true},
          {.content = "<word>", .lstrip = true, .single_word = true},
          {.content = "word", .special = false, .single_word = true, .normalized = true},
          {.content = "ba", .special = false, .normalized = true}};
}

// Encodes every text whole and cut as each of its beginnings says.
void expect_same_tokens_when_cut(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {true, false}) {
    const EncodeOptions options{.parse_special_tokens = parse_special, .add_special_tokens = false};
    const Ids whole = tokenizer.encode(text, options);
    for (std::size_t seen = 0; seen <= text.size(); ++seen) {
      const std::size_t cut = tokenizer.last_cut(text.substr(0, seen));
      if (cut == 0) continue;
      ASSERT_LT(cut, seen);
      Ids parts = tokenizer.encode(text.substr(0, cut), options);
      const Ids rest = tokenizer.encode(text.substr(cut), options);
      parts.insert(parts.end(), rest.begin(), rest.end());
      ASSERT_EQ(parts, whole) << testing::PrintToString(std::string(text)) << " cut at " << cut
                              << " having seen " << seen;
    }
  }
}

TEST(LastCut, KeepsTheTokensOfNastyTexts) {
  ByteBpeModel model = merging_model();
  const ByteBpe plain(model);
  model.added_tokens = added_tokens();
  const ByteBpe with_added(model);
  model.add_prefix_space = true;
  const ByteBpe with_prefix(model);
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const std::string text = nasty_text(seed, 3 + static_cast<int>(seed % 20));
    for (const ByteBpe* tokenizer : {&plain, &with_added, &with_prefix}) {
      expect_same_tokens_when_cut(*tokenizer, text);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LastCut, KeepsTheTokensOfGoldenTexts) {
  for (const auto& golden : test::tokenizer_goldens()) {
    const auto tokenizer = load_tokenizer(golden.tokenizer);
    for (const auto& row : test::read_rows(golden.path / "encode.jsonl")) {
      const std::string text = row.at("text");
      if (text.size() < 500) expect_same_tokens_when_cut(*tokenizer, text);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LastCut, IsTheLastPlaceWhereThePatternSurelyCuts) {
  const ByteBpe tokenizer(small_bpe_model());
  EXPECT_EQ(tokenizer.last_cut("Hello world"), 5u);
  EXPECT_EQ(tokenizer.last_cut("Hello world "), 11u);
  EXPECT_EQ(tokenizer.last_cut("line\nline"), 4u);
  EXPECT_EQ(tokenizer.last_cut("wait! \n  "), 5u);  // white space stays with what may follow it
  EXPECT_EQ(tokenizer.last_cut("ab12"), 2u);
  EXPECT_EQ(tokenizer.last_cut("don't"), 3u);
  EXPECT_EQ(tokenizer.last_cut("世界。世"), 9u);
  EXPECT_EQ(tokenizer.last_cut("世\u3000"), 3u);
}

TEST(LastCut, IsNotFoundWhereMoreTextMayDecide) {
  const ByteBpe tokenizer(small_bpe_model());
  for (const std::string_view text :
       {"", "a", "aaaa", "   a", "\n\n", "'s", "a\xE4\xB8", "世\xE3\x80", "\u00A0a"})
    EXPECT_EQ(tokenizer.last_cut(text), 0u) << testing::PrintToString(std::string(text));
}

TEST(LastCut, StaysAwayFromAddedTokensAndTheirBeginnings) {
  ByteBpeModel model = small_bpe_model();
  model.added_tokens = added_tokens();
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.last_cut("abc<le"), 0u);  // may become <left>, which strips
  EXPECT_EQ(tokenizer.last_cut("abc<x"), 4u);
  EXPECT_EQ(tokenizer.last_cut("abc <left>"), 3u);
  EXPECT_EQ(tokenizer.last_cut("<s>"), 0u);
  EXPECT_EQ(tokenizer.last_cut("x1<s>"), 1u);
}

TEST(LastCut, NeedsASpaceWhereEveryTextGetsOne) {
  ByteBpeModel model = small_bpe_model();
  model.add_prefix_space = true;
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.last_cut("a b\nc"), 1u);
}

TEST(LastCut, IsNotFoundWithoutThePattern) {
  ByteBpeModel model = small_bpe_model();
  model.use_regex = false;
  EXPECT_EQ(ByteBpe(std::move(model)).last_cut("Hello world"), 0u);
}

TEST(ReadLastUtf8, FindsTheCharacterThatEndsTheText) {
  using Kind = Utf8Prefix::Kind;
  const auto expect = [](std::string_view text, Kind kind, unsigned length, char32_t code_point) {
    const Utf8Prefix last = read_last_utf8(text);
    EXPECT_EQ(last.kind, kind) << text;
    EXPECT_EQ(unsigned{last.length}, length) << text;
    EXPECT_EQ(last.code_point, code_point) << text;
  };
  expect("ab", Kind::kCharacter, 1, U'b');
  expect("aé", Kind::kCharacter, 2, U'é');
  expect("世", Kind::kCharacter, 3, U'世');
  expect("x😀", Kind::kCharacter, 4, U'😀');
  expect("\xE4\xB8", Kind::kIllFormed, 1, 0);
  expect("世\x80", Kind::kIllFormed, 1, 0);
  expect("\x80\x80\x80\x80\x80", Kind::kIllFormed, 1, 0);
  expect("a\xFF", Kind::kIllFormed, 1, 0);
}

}  // namespace
}  // namespace gpt
