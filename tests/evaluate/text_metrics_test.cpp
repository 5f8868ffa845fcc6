// Metrics of generated text against values counted by hand, or by their definitions in a few lines of Python.
#include "gpt/evaluate/text_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

using test::expect_error;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr double kRounding = 1e-12;  // of some ten operations in double, relative to numbers up to 100

std::vector<std::string> words(std::string_view text, WordRule rule = WordRule::k13a) {
  return split_words(text, rule);
}

TEST(SplitWords, Takes13aPunctuationApart) {
  EXPECT_THAT(words("The cat sat on the mat, didn't it?"),
              ElementsAreArray({"The", "cat", "sat", "on", "the", "mat", ",", "didn't", "it", "?"}));
  EXPECT_THAT(
      words("It costs 1,000.50 dollars (in 2010-2012)."),
      ElementsAreArray({"It", "costs", "1,000.50", "dollars", "(", "in", "2010", "-", "2012", ")", "."}));
  EXPECT_THAT(words("well-known a.b 1.a a.1 .5 5. x..y"),
              ElementsAreArray({"well-known", "a", ".", "b", "1", ".", "a", "a", ".", "1", ".", "5", "5", ".",
                                "x", ".", ".", "y"}));
  EXPECT_THAT(words("a&quot;b&amp;lt;c<skipped>d"), ElementsAreArray({"a", "\"", "b", "<", "cd"}));
  EXPECT_THAT(words("hy-\nphen two\nlines \n"), ElementsAreArray({"hyphen", "two", "lines"}));
  EXPECT_THAT(words("end-\n"), ElementsAreArray({"end-"}));  // white space at the end goes first
  EXPECT_THAT(words("\u00E9.\u00E9,\u3000x\u00A0y\x1Cz"),
              ElementsAreArray({"\u00E9", ".", "\u00E9", ",", "x", "y", "z"}));
  EXPECT_THAT(words("\xFF.\xFF"), ElementsAreArray({"\xFF", ".", "\xFF"}));
  EXPECT_THAT(words(" \n "), IsEmpty());
}

TEST(SplitWords, TakesZhCharactersApart) {
  EXPECT_THAT(words("\u4ECA\u5929abc\uFF0C\u5F97100.5\u5206\u3002", WordRule::kZh),
              ElementsAreArray({"\u4ECA", "\u5929", "abc", "\uFF0C", "\u5F97", "100.5", "\u5206", "\u3002"}));
  // What sacrebleu's ranges hold, and what they were meant to hold.
  EXPECT_THAT(words("a\u2014b \U00020000\U00020001", WordRule::kZh),
              ElementsAreArray({"a", "\u2014", "b", "\U00020000\U00020001"}));
  EXPECT_THAT(words("\u4ECA\u5929"), ElementsAreArray({"\u4ECA\u5929"}));
}

TEST(SplitWords, CutsAtWhiteSpaceAlone) {
  EXPECT_THAT(words(" a, b&amp;c\td\n", WordRule::kNone), ElementsAreArray({"a,", "b&amp;c", "d"}));
}

TEST(Bleu, IsThatOfTheCountsOverAllTexts) {
  const std::vector<ReferencedText> texts = {
      {"The cat sat on the mat, didn't it?",
       {"The cat sat on a mat.", "A cat was sitting on the mat, wasn't it?"}},
      {"It costs 1,000.50 dollars (in 2010-2012).", {"It cost 1,000.50 dollars in 2010-2012."}},
      {"the the the", {"the dog &amp; the fox"}}};
  const Bleu b = bleu(texts);
  EXPECT_THAT(b.matches, ElementsAreArray({19, 11, 6, 3}));
  EXPECT_THAT(b.totals, ElementsAreArray({24, 21, 18, 15}));
  EXPECT_EQ(b.length, 24);
  EXPECT_EQ(b.reference_length, 25);  // 11 + 9 + 5
  EXPECT_NEAR(b.brevity_penalty, std::exp(-1.0 / 24), kRounding);
  EXPECT_NEAR(b.precisions[0], 100 * 19.0 / 24, kRounding);
  EXPECT_NEAR(b.precisions[3], 20, kRounding);
  EXPECT_NEAR(b.score, 39.112044577649236, 100 * kRounding);
}

TEST(Bleu, SmoothsOrdersWithoutAMatch) {
  const std::vector<ReferencedText> texts = {{"hello there world today", {"hello my world now"}}};
  const Bleu b = bleu(texts);
  EXPECT_THAT(b.matches, ElementsAreArray({2, 0, 0, 0}));
  EXPECT_NEAR(b.precisions[0], 50, kRounding);
  EXPECT_NEAR(b.precisions[1], 100.0 / (2 * 3), kRounding);
  EXPECT_NEAR(b.precisions[2], 100.0 / (4 * 2), kRounding);
  EXPECT_NEAR(b.precisions[3], 100.0 / (8 * 1), kRounding);
  EXPECT_EQ(b.brevity_penalty, 1);
  EXPECT_NEAR(b.score, 18.99589214128981, 100 * kRounding);
}

TEST(Bleu, IsZeroWithoutMatchesAndForTextsTooShort) {
  const std::vector<ReferencedText> different = {{"a b c d", {"e f g h i"}}};
  EXPECT_EQ(bleu(different).score, 0);
  EXPECT_THAT(bleu(different).precisions, ElementsAreArray({0, 0, 0, 0}));
  EXPECT_NEAR(bleu(different).brevity_penalty, std::exp(-0.25), kRounding);
  const std::vector<ReferencedText> two_words = {{"the cat", {"the cat"}}};
  EXPECT_EQ(bleu(two_words).score, 0);
  EXPECT_THAT(bleu(two_words).precisions, ElementsAreArray({100, 100, 0, 0}));
  const std::vector<ReferencedText> nothing = {{"", {"the cat"}}};
  EXPECT_EQ(bleu(nothing).score, 0);
  EXPECT_EQ(bleu(nothing).brevity_penalty, 0);
}

TEST(Bleu, OfTheReferenceItselfIsAHundred) {
  const std::vector<ReferencedText> texts = {{"one two three four five", {"x", "one two three four five"}}};
  EXPECT_NEAR(bleu(texts).score, 100, 100 * kRounding);
}

TEST(Bleu, CountsChineseByCharacters) {
  const std::vector<ReferencedText> texts = {
      {"\u4ECA\u5929\u5929\u6C14\u771F\u597D\uFF0C\u6211\u5F97\u4E86100.5\u5206\u3002",
       {"\u4ECA\u5929\u7684\u5929\u6C14\u771F\u597D\uFF0C\u6211\u5F97100.5\u5206\u3002"}}};
  const Bleu b = bleu(texts, WordRule::kZh);
  EXPECT_THAT(b.matches, ElementsAreArray({12, 9, 6, 4}));
  EXPECT_NEAR(b.score, 62.34181304540137, 100 * kRounding);
}

TEST(Bleu, TakesOfTwoNearReferencesTheShorter) {
  const std::vector<ReferencedText> texts = {{"a b c", {"a b c d", "a b"}}};
  EXPECT_EQ(bleu(texts).reference_length, 2);
}

TEST(Rouge, IsThatOfCommonWordsPairsAndSubsequences) {
  // text: the cat sat on the mat didn t it; reference: the cat sat on a mat (5 of its words, 3 of its pairs)
  const Rouge r = rouge({"The cat sat on the mat, didn't it?", {"The cat sat on a mat."}});
  EXPECT_EQ(r.rouge1.precision, 5.0 / 9);
  EXPECT_EQ(r.rouge1.recall, 5.0 / 6);
  EXPECT_NEAR(r.rouge1.fmeasure, 2.0 / 3, kRounding);
  EXPECT_EQ(r.rouge2.precision, 3.0 / 8);
  EXPECT_EQ(r.rouge2.recall, 3.0 / 5);
  EXPECT_NEAR(r.rouge2.fmeasure, 6.0 / 13, kRounding);
  EXPECT_EQ(r.rouge_l.precision, 5.0 / 9);
  EXPECT_EQ(r.rouge_l.recall, 5.0 / 6);
}

TEST(Rouge, CountsASubsequenceInOrder) {
  // Lin's example (section 3): both share three words with the reference, of which the second has two in its order.
  const Rouge same_order = rouge({"police kill the gunman", {"police killed the gunman"}});
  EXPECT_EQ(same_order.rouge_l.fmeasure, 3.0 / 4);
  EXPECT_EQ(same_order.rouge2.fmeasure, 1.0 / 3);
  const Rouge other_order = rouge({"the gunman kill police", {"police killed the gunman"}});
  EXPECT_EQ(other_order.rouge_l.fmeasure, 2.0 / 4);
  EXPECT_EQ(other_order.rouge1.fmeasure, 3.0 / 4);
  // A word counts once, whichever side repeats it.
  EXPECT_EQ(rouge({"a a a", {"a"}}).rouge_l.precision, 1.0 / 3);
  EXPECT_EQ(rouge({"a", {"a a a"}}).rouge_l.recall, 1.0 / 3);
}

TEST(Rouge, TakesTheBestReferenceForEachScore) {
  const Rouge r = rouge({"a b c d", {"a x b x c x c", "a b", "z"}});
  EXPECT_EQ(r.rouge1.precision, 2.0 / 4);  // of the second, 2/3, against 6/11 of the first
  EXPECT_EQ(r.rouge2.recall, 1);
  EXPECT_EQ(rouge({"a a a", {"a"}}).rouge1.precision, 1.0 / 3);
}

TEST(Rouge, KnowsAsciiWordsInLowerCase) {
  EXPECT_EQ(rouge({"HELLO World-42", {"hello world 42"}}).rouge1.fmeasure, 1);
  EXPECT_EQ(rouge({"caf\u00E9", {"caf"}}).rouge1.fmeasure, 1);
  EXPECT_EQ(rouge({"\u212A\u0130x", {"ki x"}}).rouge1.fmeasure, 1);  // as Python lower-cases them
  EXPECT_EQ(rouge({"\u4ECA\u5929", {"\u4ECA\u5929"}}).rouge1.fmeasure, 0);
  EXPECT_EQ(rouge({"", {"a"}}).rouge_l.fmeasure, 0);
  EXPECT_EQ(rouge({"a", {""}}).rouge_l.fmeasure, 0);
}

TEST(Rouge, OfManyTextsIsTheMean) {
  const std::vector<ReferencedText> texts = {{"a b", {"a b"}}, {"a b", {"a c"}}, {"a", {"b"}}};
  const Rouge r = rouge(texts);
  EXPECT_NEAR(r.rouge1.fmeasure, 1.5 / 3, kRounding);
  EXPECT_NEAR(r.rouge2.fmeasure, 1.0 / 3, kRounding);
  EXPECT_NEAR(r.rouge_l.precision, 1.5 / 3, kRounding);
}

TEST(DistinctN, IsTheShareOfDifferentOnes) {
  const std::vector<std::string> texts = {"a b a b", "a b c", "d"};
  EXPECT_EQ(distinct_n(texts, 1), 4.0 / 8);
  EXPECT_EQ(distinct_n(texts, 2), 3.0 / 5);  // ab ba bc
  EXPECT_EQ(distinct_n(texts, 4), 1);
  EXPECT_TRUE(std::isnan(distinct_n(texts, 5)));
  const std::vector<std::string> chinese = {"\u5929\u5929"};
  EXPECT_EQ(distinct_n(chinese, 1, WordRule::kZh), 0.5);
}

TEST(RepetitionN, IsTheMeanShareOfThoseThatOccurredBefore) {
  const std::vector<std::string> texts = {"a b a b a", "a b c", "d"};
  EXPECT_EQ(repetition_n(texts, 1), (3.0 / 5 + 0 + 0) / 3);
  EXPECT_EQ(repetition_n(texts, 2), (2.0 / 4 + 0) / 2);
  EXPECT_TRUE(std::isnan(repetition_n(texts, 6)));
}

TEST(TextMetrics, DoNotDependOnTheHostsRounding) {
  const std::vector<ReferencedText> texts = {
      {"a b c d e f", {"a b c x e f g h"}}, {"a b", {"b"}}, {"a", {"a"}}};
  const std::vector<std::string> alone = {"a b a b a", "a b c a", "a"};
  const double bleu_score = bleu(texts).score, rouge_score = rouge(texts).rouge_l.fmeasure;
  const double distinct = distinct_n(alone, 2), repeated = repetition_n(alone, 1);
  const test::RoundingUpward upward;
  EXPECT_EQ(bleu(texts).score, bleu_score);
  EXPECT_EQ(rouge(texts).rouge_l.fmeasure, rouge_score);
  EXPECT_EQ(distinct_n(alone, 2), distinct);
  EXPECT_EQ(repetition_n(alone, 1), repeated);
}

TEST(TextMetrics, RefuseWhatHasNoValue) {
  const std::vector<ReferencedText> none, without = {{"a", {"a"}}, {"b", {}}};
  expect_error<ArgumentError>([&] { bleu(none); }, {"[bleu] there are no texts"});
  expect_error<ArgumentError>([&] { bleu(without); }, {"[bleu] text 1 has no references"});
  expect_error<ArgumentError>([&] { rouge(none); }, {"[rouge] there are no texts"});
  expect_error<ArgumentError>([&] { rouge(without); }, {"[rouge] text 1 has no references"});
  expect_error<ArgumentError>([&] { rouge(without[1]); }, {"[rouge] the text has no references"});
  const std::vector<std::string> texts = {"a"};
  expect_error<ArgumentError>([&] { distinct_n(texts, 0); }, {"[distinct_n] n is 0, expected at least 1"});
  expect_error<ArgumentError>([&] { repetition_n(texts, 0); }, {"[repetition_n] n is 0"});
}

}  // namespace
}  // namespace gpt
