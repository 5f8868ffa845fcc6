#include "gpt/text/utf8.h"

#include <gtest/gtest.h>

#include <string>

#include "gpt/core/error.h"

namespace gpt {
namespace {

using namespace std::string_literals;
using Kind = Utf8Prefix::Kind;

const std::string kReplacement = "\xEF\xBF\xBD";

std::string encode(char32_t c) {
  std::string out;
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  if (c < 0x10000)
    return {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  return {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
          static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
}

TEST(Utf8, ReadsEveryScalarValueAndNoSurrogate) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    const std::string text = encode(c);
    const Utf8Prefix prefix = read_utf8(text);
    const bool is_surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(prefix.kind == Kind::kCharacter, !is_surrogate) << std::hex << static_cast<unsigned>(c);
    if (is_surrogate) continue;
    ASSERT_EQ(prefix.code_point, c);
    ASSERT_EQ(prefix.length, text.size());
  }
}

TEST(Utf8, TellsIncompleteFromIllFormed) {
  for (char32_t c : {0xE9u, 0x20ACu, 0xFFFDu, 0x1F600u, 0x10FFFFu}) {
    const std::string text = encode(c);
    for (std::size_t n = 1; n < text.size(); ++n) {
      EXPECT_EQ(read_utf8(text.substr(0, n)).kind, Kind::kIncomplete);
      EXPECT_EQ(read_utf8(text.substr(0, n)).length, n);
      EXPECT_EQ(read_utf8(text.substr(0, n) + "a").kind, Kind::kIllFormed);
      EXPECT_EQ(read_utf8(text.substr(0, n) + "a").length, n);
    }
  }
  for (const char* text :
       {"\x80", "\xBF", "\xC0\xAF", "\xC1", "\xE0\x80", "\xED\xA0", "\xF0\x80", "\xF4\x90", "\xF5", "\xFF"}) {
    EXPECT_EQ(read_utf8(text).kind, Kind::kIllFormed);
    EXPECT_EQ(read_utf8(text).length, 1);
  }
}

TEST(Utf8, ReplacesEachMaximalSubpartOnce) {
  const auto replaced = [](std::size_t n) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += kReplacement;
    return out;
  };
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80\xAF"), replaced(3));
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F"), replaced(1));
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), replaced(3));
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98z"), replaced(1) + "z");
  // The example of the Unicode Standard, table 3-8.
  EXPECT_EQ(replace_invalid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                                 "b\x80"
                                 "c\x80\xBF"
                                 "d"),
            concat("a", replaced(3), "b", replaced(1), "c", replaced(2), "d"));
}

TEST(Utf8, LeavesWellFormedTextAlone) {
  const std::string text = "a\0é世😀"s;
  EXPECT_TRUE(is_valid_utf8(text));
  EXPECT_EQ(replace_invalid_utf8(text), text);
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_FALSE(is_valid_utf8("ab\xC3"));
}

}  // namespace
}  // namespace gpt
