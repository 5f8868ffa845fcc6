// What texts a grammar admits, and what is no grammar.
#include "gpt/generate/grammar.h"

#include <gtest/gtest.h>

#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;

void expect_texts(const Grammar& grammar, std::initializer_list<std::string_view> in,
                  std::initializer_list<std::string_view> out) {
  for (const std::string_view text : in) EXPECT_TRUE(grammar.accepts(text)) << text;
  for (const std::string_view text : out) EXPECT_FALSE(grammar.accepts(text)) << text;
}

TEST(GrammarFromRegex, MatchesTheWholeText) {
  expect_texts(Grammar::from_regex("a|b+c{2,3}"), {"a", "bcc", "bbccc"},
               {"", "b", "bc", "bcccc", "abcc", "aa"});
  expect_texts(Grammar::from_regex("^ab?$|^c$"), {"a", "ab", "c"}, {"b", "ac"});
  expect_texts(Grammar::from_regex("(ab){2,}"), {"abab", "ababab"}, {"ab", "aba"});
  expect_texts(Grammar::from_regex("x{0}y{3}"), {"yyy"}, {"xyyy", "yy"});
  expect_texts(Grammar::from_regex(""), {""}, {"a"});
  expect_texts(Grammar::from_regex("a*?b+?(?:c)(?<n>d)(?P<m>e)"), {"bcde", "aabbcde"}, {"bcd"});
  expect_texts(Grammar::from_regex("(|a)(b|)"), {"", "a", "b", "ab"}, {"ba"});
}

TEST(GrammarFromRegex, ReadsClassesAndEscapes) {
  expect_texts(Grammar::from_regex("[a-c\\-\\]x]+"), {"abc-]x"}, {"d", ""});
  expect_texts(Grammar::from_regex("[^a-c]"), {"d", "\n", "\xc3\xa9", "\xf0\x9f\x98\x80"},
               {"a", "\xc3", "dd"});
  expect_texts(Grammar::from_regex("."), {"a", "\xe2\x82\xac", "\xc2\x85"},
               {"\n", "\r", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xff", "\xed\xa0\x80", "\xc0\x80"});
  // No white space: neither ASCII's nor U+00A0, U+2028, U+FEFF.
  expect_texts(Grammar::from_regex("[^\\s]+"), {"a\xc3\xa9"},
               {" ", "\t", "\xc2\xa0", "\xe2\x80\xa8", "\xef\xbb\xbf"});
  expect_texts(Grammar::from_regex("[^\\S]"), {" ", "\t"}, {"a", "\xc2\xa0", "\xe2\x80\xa8", "\xef\xbb\xbf"});
  expect_texts(Grammar::from_regex("[^\\S\\n]"), {" "}, {"\n", "a"});
  expect_texts(Grammar::from_regex("[\\s]"), {" "}, {"\xc2\xa0"});
  expect_texts(Grammar::from_regex("\\d\\D\\w\\W\\s\\S"), {"1a_- x", "0\xc3\xa9Z\xc3\xa9\tx"},
               {"1a__ x", "1a_-\xc2\xa0x", "1a_- \xc2\xa0"});
  expect_texts(Grammar::from_regex("\\x41\\u00e9\\u{1F600}\\t\\.\\/"), {"A\xc3\xa9\xf0\x9f\x98\x80\t./"},
               {"A"});
  expect_texts(Grammar::from_regex("\\p{Lu}\\pL\\P{N}"), {"\xc3\x89\xc3\xa9x", "AB-"}, {"a\xc3\xa9x", "AB1"});
  expect_texts(Grammar::from_regex("[\\d-]+"), {"1-2"}, {"a"});
}

TEST(GrammarFromRegex, NamesWhatIsNoPattern) {
  const auto expect = [](std::string_view pattern, std::initializer_list<std::string_view> parts) {
    expect_error<FormatError>([&] { Grammar::from_regex(pattern); }, parts);
  };
  expect("(a", {"[regex]", "at byte 0", "a ( without its )"});
  expect("ab)", {"at byte 2", "a ) without its ("});
  expect("[a", {"at byte 0", "a [ without its ]"});
  expect("[b-a]", {"at byte 2", "range"});
  expect("[\\d-z]", {"at byte 3", "range"});
  expect("*a", {"at byte 0", "a quantifier with nothing before it"});
  expect("a**", {"at byte 2", "a quantifier behind a quantifier"});
  expect("a{2,1}", {"at byte 6", "fewer than the least"});
  expect("a{x}", {"at byte 2", "expected a number"});
  expect("a{1", {"at byte 3", "expected }"});
  expect("a{100001}", {"more than 100000 repetitions"});
  expect("a\\", {"at byte 2", "a \\ at the end"});
  expect("\\xg0", {"at byte 0", "hexadecimal"});
  expect("\\uD800", {"at byte 0", "surrogates"});
  expect("\xff", {"not valid UTF-8"});
  expect(std::string(101, '(') + std::string(101, ')'), {"nested more than 100 deep"});
}

TEST(GrammarFromRegex, RefusesByNameWhatIsNotRegular) {
  const auto expect = [](std::string_view pattern, std::initializer_list<std::string_view> parts) {
    expect_error<UnsupportedError>([&] { Grammar::from_regex(pattern); }, parts);
  };
  expect("(a)\\1", {"[regex]", "at byte 3", "a back-reference"});
  expect("\\k<x>", {"a back-reference"});
  expect("a(?=b)", {"at byte 1", "look-ahead"});
  expect("(?!b)", {"look-ahead"});
  expect("(?<=b)", {"look-behind"});
  expect("(?<!b)", {"look-behind"});
  expect("(?i)a", {"a group with flags"});
  expect("a\\b", {"at byte 1", "a word boundary"});
  expect("\\Aa", {"an anchor"});
  expect("a^b", {"at byte 1", "^ inside the pattern"});
  expect("(a$)", {"$ inside the pattern"});
  expect("a++", {"possessive"});
  expect("[[:alpha:]]", {"POSIX"});
  expect("\\p{Greek}", {"a property that is no general category"});
  expect("\\q", {"the escape \\q"});
}

TEST(GrammarFromRegex, BoundsWhatAPatternCosts) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  expect_error<ArgumentError>([] { Grammar::from_regex("((a{1000}){1000}){1000}"); },
                              {"[regex]", "262144 states"});
  expect_error<ArgumentError>([] { Grammar::from_regex("(a|b)*a(a|b){20}"); }, {"[regex]", "too large"});
  expect_error<ArgumentError>([] { Grammar::from_regex(std::string(70000, 'a')); }, {"70000 bytes"});
}

TEST(GrammarFromGbnf, AdmitsTheTextsOfRoot) {
  const Grammar arithmetic = Grammar::from_gbnf(R"gbnf(# llama.cpp's arithmetic
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws # digits
ws    ::= [ \t\n]*)gbnf");
  expect_texts(arithmetic, {"a=1\n", "( a +( b *2)) = x\nb=1\n"}, {"a=", "(a=1\n", "a=1", "=1\n"});
  expect_texts(Grammar::from_gbnf("root ::= \"a\" |\n  \"b\" ( \"c\"\n | \"d\" )\n"), {"a", "bc", "bd"},
               {"b"});
  expect_texts(Grammar::from_gbnf("root ::= [^\\x00-\\x1f\"\\\\]{2,3} . x?\nx ::= \"\\u00e9\\U0001F600\""),
               {"ab\n", "ab\n\xc3\xa9\xf0\x9f\x98\x80", "abcd"}, {"ab", "a\"c"});
  expect_texts(Grammar::from_gbnf("root ::= \"x\" root \"y\" | \"\""), {"", "xy", "xxxyyy"}, {"x", "xyy"});
  expect_texts(
      Grammar::from_gbnf("root ::= a | b\na ::= \"(\" root \")\" | \"x\"\nb ::= \"(\" root \"]\" | \"x\""),
      {"((x])", "(((((x))])]"}, {"(x", "(x}"});
}

TEST(GrammarFromGbnf, KeepsCallersOfOneRuleApart) {
  // C stands for a b's inside in two ways that share states: what waits behind it must not be mixed up.
  const Grammar grammar = Grammar::from_gbnf(
      "root ::= a\na ::= c t | \"s\" b t\nb ::= a \"x\"\nc ::= \"k\" | \"(\" c \")\"\nt ::= \"!\" a | \"t\"");
  expect_texts(grammar, {"kt", "sktxt", "sktx!kt", "s(k)txt", "ssktxtxt"}, {"skt", "sktt", "ktxt", "skx"});
}

TEST(GrammarFromGbnf, NamesWhatIsNoGrammar) {
  const auto expect = [](std::string_view text, std::initializer_list<std::string_view> parts) {
    expect_error<FormatError>([&] { Grammar::from_gbnf(text); }, parts);
  };
  expect("", {"[grammar]", "no rule \"root\""});
  expect("root ::= x", {"line 1, column 10", "the rule \"x\" is not defined"});
  expect("root ::= \"a\"\nroot ::= \"b\"", {"line 2, column 1", "\"root\" is defined a second time"});
  expect("root = \"a\"", {"column 6", "expected ::="});
  expect("root ::= \"a", {"column 10", "without its closing"});
  expect("root ::= [a", {"column 10", "a [ without its ]"});
  expect("root ::= []", {"a class without characters"});
  expect("root ::= (\"a\"", {"column 10", "a ( without its )"});
  expect("root ::= \"a\")", {"column 13", "expected the end of the line"});
  expect("root ::= *", {"a repetition with nothing before it"});
  expect("root ::= \"a\"{3,2}", {"fewer than the least"});
  expect("root ::= \"\\q\"", {"column 11", "an unknown escape"});
  expect("root ::= \"\\x4\"", {"expected 2 hexadecimal digits"});
  expect("root ::= \"\\uDC00\"", {"surrogates"});
}

TEST(GrammarFromGbnf, RefusesByNameWhatHasNoEnd) {
  expect_error<UnsupportedError>([] { Grammar::from_gbnf("root ::= sum\nsum ::= sum \"+\" sum | \"1\""); },
                                 {"[grammar]", "\"sum\"", "left recursion"});
  expect_error<UnsupportedError>(
      [] { Grammar::from_gbnf("root ::= x \"a\"\nx ::= \"\" | y\ny ::= x \"b\""); }, {"left recursion"});
  expect_error<UnsupportedError>([] { Grammar::from_gbnf("root ::= e root \"a\" | \"b\"\ne ::= \"c\"?"); },
                                 {"\"root\"", "left recursion"});
  expect_error<UnsupportedError>([] { Grammar::from_gbnf("root ::= <think> \"a\""); },
                                 {"column 10", "a token"});
  expect_error<ArgumentError>([] { Grammar::from_gbnf("root ::= \"a\" root"); },
                              {"[grammar]", "no text at all"});
}

TEST(GrammarFromGbnf, HoldsLongChainsOfRules) {
  std::string text = "root ::= r0\n";
  for (int i = 0; i < 20000; ++i)
    text += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string(i + 1) + " \"b\" | \"c\"\n";
  text += "r20000 ::= \"d\"";
  const Grammar grammar = Grammar::from_gbnf(text);
  expect_texts(grammar, {"c", "acb", std::string(100, 'a') + "c" + std::string(100, 'b')}, {"a", "d"});
}

}  // namespace
}  // namespace gpt
