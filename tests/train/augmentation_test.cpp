// Texts made from others, with labels of their own, or a classifier's.
#include "gpt/train/augmentation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/text/utf8.h"
#include "gpt/train/pseudo_labels.h"
#include "small_classifier.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using test::TempDir;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Thesaurus few_words() {
  Thesaurus thesaurus;
  const std::string good[] = {"fine", "nice"}, film[] = {"movie"}, chinese[] = {"影片"};
  thesaurus.add("good", good);
  thesaurus.add("film", film);
  thesaurus.add("电影", chinese);
  return thesaurus;
}

/// What an augmenter makes of a text from many seeds.
std::set<std::string> made_of(const EdaAugmenter& augmenter, std::string_view text,
                              std::uint64_t seeds = 200) {
  std::set<std::string> all;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) all.insert(augmenter(text, seed));
  return all;
}

const EdaOptions kReplace{.alpha_ri = 0, .alpha_rs = 0, .p_rd = 0};
const EdaOptions kInsert{.alpha_sr = 0, .alpha_rs = 0, .p_rd = 0};
const EdaOptions kSwap{.alpha_sr = 0, .alpha_ri = 0, .p_rd = 0};
const EdaOptions kDelete{.alpha_sr = 0, .alpha_ri = 0, .alpha_rs = 0, .p_rd = 0.5};

TEST(Eda, ReplacesWordsBySynonyms) {
  const EdaAugmenter one(few_words(), kReplace);
  EXPECT_THAT(
      made_of(one, "A good film, isn't it?"),
      ElementsAreArray({"A fine film, isn't it?", "A good movie, isn't it?", "A nice film, isn't it?"}));
  EXPECT_THAT(made_of(one, "Good."), ElementsAreArray({"Fine.", "Nice."}));
  EdaOptions all = kReplace;
  all.alpha_sr = 1;
  EXPECT_THAT(made_of(EdaAugmenter(few_words(), all), "good film"),
              ElementsAreArray({"fine movie", "nice movie"}));
  EXPECT_THAT(made_of(one, "这部电影很好"), ElementsAreArray({"这部影片很好"}));
}

TEST(Eda, InsertsSynonymsOfWordsOfTheText) {
  EXPECT_THAT(made_of(EdaAugmenter(few_words(), kInsert), "One Film, seen"),
              ElementsAreArray({"One Film movie, seen", "One Film, seen movie", "One movie Film, seen"}));
  EXPECT_THAT(made_of(EdaAugmenter(few_words(), kInsert), "电影好"),
              ElementsAreArray({"电影好影片", "电影影片好"}));
}

TEST(Eda, TakesSynonymsOfWordsThatHaveACapitalInTheThesaurus) {
  Thesaurus names;
  const std::string others[] = {"Lyon", "the capital"};
  names.add("Paris", others);
  EXPECT_THAT(
      made_of(EdaAugmenter(names, kInsert), "In Paris"),
      ElementsAreArray({"In Lyon Paris", "In Paris Lyon", "In Paris the capital", "In the capital Paris"}));
  EXPECT_THAT(made_of(EdaAugmenter(names, kReplace), "In Paris"),
              ElementsAreArray({"In Lyon", "In The capital"}));
}

TEST(Eda, SwapsWordsAndLeavesWhatIsBetweenThem) {
  EXPECT_THAT(made_of(EdaAugmenter({}, kSwap), "one, two; three"),
              ElementsAreArray({"one, three; two", "three, two; one", "two, one; three"}));
}

TEST(Eda, DeletesWordsButNotAll) {
  EXPECT_THAT(
      made_of(EdaAugmenter({}, kDelete), "one two three!"),
      ElementsAreArray({"one three!", "one two three!", "one two!", "one!", "three!", "two three!", "two!"}));
}

TEST(Eda, UsesEveryOperationThatCanChangeTheText) {
  const auto all = made_of(EdaAugmenter(few_words()), "good old film", 400);
  EXPECT_THAT(all, Contains("fine old film"));        // replaced
  EXPECT_THAT(all, Contains("old good film"));        // swapped
  EXPECT_THAT(all, Contains("good old film movie"));  // put in
  EXPECT_THAT(all, Contains("old film"));             // deleted
  EXPECT_THAT(made_of(EdaAugmenter({}), "word"), ElementsAreArray({"word"}));
  EXPECT_THAT(made_of(EdaAugmenter({}), "?!"), ElementsAreArray({"?!"}));
  EXPECT_THAT(made_of(EdaAugmenter({}), ""), ElementsAreArray({""}));
}

TEST(Eda, KeepsCharactersWholeAndBytesThatAreNone) {
  const std::string text = "Größe été \xF0\x9F\x98\x80 naïve 中文字 — e\xCC\x81t\xC3\xA9 \xFF\xFE end";
  const EdaOptions strong{.alpha_sr = 1, .alpha_ri = 1, .alpha_rs = 1, .p_rd = 0.5};
  for (const std::string& made : made_of(EdaAugmenter(few_words(), strong), text)) {
    std::string rest;  // without the two bytes that are in no character
    for (const char c : made)
      if (c != '\xFF' && c != '\xFE') rest += c;
    EXPECT_TRUE(is_valid_utf8(rest)) << made;
  }
}

TEST(Eda, IsAFunctionOfTheSeed) {
  const EdaAugmenter augmenter(few_words());
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    EXPECT_EQ(augmenter("a good film of old", seed), augmenter("a good film of old", seed));
  EXPECT_GT(made_of(augmenter, "a good film of old", 20).size(), 5u);
}

TEST(Eda, RefusesOptionsOutOfRange) {
  EXPECT_EQ(message_of<ArgumentError>([] { EdaAugmenter({}, {.p_rd = 1.5}); }),
            "[augmentation] p_rd is 1.5, expected 0 to 1");
  EXPECT_EQ(message_of<ArgumentError>(
                [] { EdaAugmenter({}, {.alpha_sr = 0, .alpha_ri = 0, .alpha_rs = 0, .p_rd = 0}); }),
            "[augmentation] alpha_sr, alpha_ri, alpha_rs and p_rd are all 0");
}

TEST(Thesaurus, ReadsWordsWithTabsOrCommas) {
  const TempDir directory;
  test::write_file(directory / "t.tsv",
                   "\xEF\xBB\xBFgood\tfine\tvery nice\r\n# no word\n\nfilm, movie ,picture\ngood\tgreat");
  const Thesaurus thesaurus = Thesaurus::from_file(directory / "t.tsv");
  EXPECT_THAT(thesaurus.synonyms("good"), ElementsAreArray({"fine", "very nice", "great"}));
  EXPECT_THAT(thesaurus.synonyms("FILM"), ElementsAreArray({"movie", "picture"}));
  EXPECT_THAT(thesaurus.synonyms("fine"), IsEmpty());
  const auto refused = [&](std::string_view content, std::string_view message) {
    test::write_file(directory / "bad", content);
    EXPECT_THAT(message_of<FormatError>([&] { Thesaurus::from_file(directory / "bad"); }),
                HasSubstr(std::string("bad] ") + std::string(message)));
  };
  refused("a,b\ngood\n", "line 2 has 1 words, expected one and what may stand for it");
  refused("a,\xFF\n", "line 1 is not UTF-8");
  refused("# nothing\n", "has no words");
  EXPECT_THROW(Thesaurus::from_file(directory / "none"), IoError);
  Thesaurus own;
  EXPECT_THROW(own.add("", {}), ArgumentError);
}

TEST(Augmented, PutsFurtherRowsBehindThoseThatThereAre) {
  const std::vector<LabelledRow> rows = {{"one", {"a"}, 2}, {"two", {"b"}, 3}};
  const auto all = augmented(
      rows,
      [](std::string_view text, std::uint64_t seed) {
        return seed % 2 == 0 ? std::string(text) : std::string(text) + "!";
      },
      8, 5);
  ASSERT_GT(all.size(), 4u);
  ASSERT_LT(all.size(), 18u);  // what is not changed is left out
  EXPECT_EQ(all[0].text, "one");
  EXPECT_EQ(all[2].text, "one!");
  EXPECT_THAT(all[2].labels, ElementsAreArray({"a"}));
  EXPECT_EQ(all.back().text, "two!");
  EXPECT_EQ(all.back().line, 3);
  EXPECT_THAT(augmented(rows, {}, 0, 5), SizeIs(2));
  EXPECT_EQ(message_of<ArgumentError>([&] { augmented(rows, {}, -1, 5); }),
            "[augmentation] copies is -1, expected 0 to 1000");
  EXPECT_EQ(
      message_of<ArgumentError>([&] { augmented(rows, {}, std::numeric_limits<std::int64_t>::max(), 5); }),
      "[augmentation] copies is 9223372036854775807, expected 0 to 1000");
  std::stop_source stopped;
  const auto stop = [&](std::string_view text, std::uint64_t) {
    stopped.request_stop();
    return std::string(text) + "!";
  };
  EXPECT_THROW(augmented(rows, stop, 2, 5, stopped.get_token()), CancelledError);
}

}  // namespace
}  // namespace gpt
