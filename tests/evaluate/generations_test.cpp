// Files of generated texts and their references.
#include "gpt/evaluate/generations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using ::testing::ElementsAreArray;

TEST(ParsePredictions, ReadsTheirKeys) {
  EXPECT_THAT(parse_predictions("{\"prediction\": \"a\\nb\"}\n\n{\"text\": \"\", \"ids\": [1]}", "f"),
              ElementsAreArray({"a\nb", ""}));
  EXPECT_THAT(parse_predictions("\xEF\xBB\xBF\r\n{\"text\": \"a\"}\n", "f"), ElementsAreArray({"a"}));
}

TEST(ParseReferences, ReadOneOrMore) {
  EXPECT_THAT(
      parse_references(R"({"references": ["a", "b"], "prediction": "x"}
{"reference": "c", "text": "x"}
{"text": "d"})",
                       "f"),
      ElementsAreArray({ElementsAreArray({"a", "b"}), ElementsAreArray({"c"}), ElementsAreArray({"d"})}));
}

TEST(ParseGenerations, NameTheFileAndTheLineOfWhatIsBad) {
  const auto refuse = [](auto&& parse, const std::string& line, std::string_view part) {
    const std::string text = "{\"text\": \"a\"}\n" + line;
    expect_error<FormatError>([&] { parse(text, "d/f.jsonl"); }, {"[d/f.jsonl:2] ", part});
  };
  refuse(parse_predictions, "x", "is not valid JSON");
  refuse(parse_predictions, "\"a\"", "expected a JSON object");
  refuse(parse_predictions, "{}", "has none of the keys prediction and text");
  refuse(parse_predictions, "{\"prediction\": 1}", "prediction");
  refuse(parse_predictions, "{\"prediction\": \"a\", \"text\": \"b\"}",
         "has more than one of the keys prediction and text");
  refuse(parse_references, "{\"references\": [\"a\"], \"reference\": \"b\"}",
         "has more than one of the keys references and reference");
  refuse(parse_references, "{}", "has none of the keys references, reference and text");
  refuse(parse_references, "{\"references\": []}", "references is empty, expected 1 text or more");
  refuse(parse_references, "{\"references\": \"a\"}", "references");
  refuse(parse_references, "{\"references\": [null]}", "references[0] is null, expected text");
  refuse(parse_references, "{\"reference\": [\"a\"]}", "reference");
  expect_error<FormatError>([] { parse_predictions("\n", "f"); }, {"[f] has no prediction"});
  expect_error<FormatError>([] { parse_references("", "f"); }, {"[f] has no references"});
  expect_error<FormatError>([] { parse_references("\xFF\xFE{", "f"); }, {"[f] ", "UTF-16"});
}

TEST(JoinReferences, PairsThem) {
  const auto texts = join_references({"a", "b"}, {{"c"}, {"d", "e"}});
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[1].text, "b");
  EXPECT_THAT(texts[1].references, ElementsAreArray({"d", "e"}));
  expect_error<ArgumentError>(
      [] {
        join_references({"a", "b"}, {{"c"}});
      },
      {"there are 1 lines of references for 2 predictions"});
}

}  // namespace
}  // namespace gpt
