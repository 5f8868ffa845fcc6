// Steps on generated text.
#include "gpt/evaluate/postprocess.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

TEST(Trim, TakesWhiteSpaceFromBothEnds) {
  EXPECT_EQ(trim(" \t\na b \u3000\u00A0\r\n"), "a b");
  EXPECT_EQ(trim("a"), "a");
  EXPECT_EQ(trim(" \n"), "");
  EXPECT_EQ(trim("\xFF \xE3\x80"), "\xFF \xE3\x80");
}

TEST(DedupeLines, KeepsTheFirstOfEqualLines) {
  EXPECT_EQ(dedupe_lines("a\nb\na\nc\nb\n"), "a\nb\nc\n");
  EXPECT_EQ(dedupe_lines("a\na"), "a\n");
  EXPECT_EQ(dedupe_lines("a\nb\na"), "a\nb\n");
  EXPECT_EQ(dedupe_lines("a\n\nb\n\n \n"), "a\n\nb\n\n \n");
  EXPECT_EQ(dedupe_lines("a\n a\na \n"), "a\n a\na \n");
  EXPECT_EQ(dedupe_lines(""), "");
}

TEST(RegexReplace, ReplacesAllMatches) {
  EXPECT_EQ(RegexReplace("a+", "<\\0>")("aab a"), "<aa>b <a>");
  EXPECT_EQ(RegexReplace("(\\w+)@(\\w+)", "\\2 at \\1")("me@home you@work"), "home at me work at you");
  EXPECT_EQ(RegexReplace("(?m)^ROMEO:$\n?", "")("ROMEO:\nAy\nROMEO:\nme"), "Ay\nme");
  EXPECT_EQ(RegexReplace("\u5929.", "-")("\u4ECA\u5929\u6C14"), "\u4ECA-");
  EXPECT_EQ(RegexReplace("x", "y")("\xFFx\xFF"), "\xFFy\xFF");
}

TEST(RegexReplace, TakesLinearTimeWhereBacktrackingWouldNotEnd) {
  EXPECT_EQ(RegexReplace("(a*)*b", "")(std::string(100'000, 'a')), std::string(100'000, 'a'));
}

TEST(RegexReplace, SaysWhatIsWrong) {
  expect_error<ArgumentError>([] { RegexReplace("a(b", ""); },
                              {"[regex_replace] \"a(b\" is no regular expression: missing )"});
  expect_error<ArgumentError>([] { RegexReplace("\xFF", ""); }, {"is no regular expression: invalid UTF-8"});
  expect_error<ArgumentError>([] { RegexReplace("(a)\\1", ""); },
                              {"is no regular expression: invalid escape"});
  expect_error<ArgumentError>([] { RegexReplace("(a)", "\\2"); },
                              {"[regex_replace] \"\\2\" is no replacement"});
}

TEST(Postprocess, TakesTheStepsInTurn) {
  const std::vector<TextStep> steps = {RegexReplace("b", "a"), dedupe_lines, trim,
                                       [](std::string_view text) { return std::string(text) + "!"; }};
  EXPECT_EQ(postprocess(" b\n a\nc\n", steps), "a\nc!");
  EXPECT_EQ(postprocess(" a ", {}), " a ");
  const std::vector<TextStep> empty = {trim, nullptr};
  expect_error<ArgumentError>([&] { postprocess("a", empty); }, {"[postprocess] step 1 is empty"});
}

}  // namespace
}  // namespace gpt
