// Files as people keep them.
#include "gpt/train/labelled_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MATCHER_P3(Row, text, label, line, "") {
  return arg.text == text && arg.labels == std::vector<std::string>{label} && arg.line == line;
}

LabelledRows parse(std::string_view text, RowFormat format = RowFormat::kCsv) {
  return parse_labelled_rows(text, "file", {.format = format});
}

TEST(LabelledRows, AreReadFromCsvWithQuotesAndLinesInThem) {
  EXPECT_THAT(parse("label,text\n1,plain\n0,\"two, \"\"quoted\"\"\nlines\"\n1,\"\"\n0,last").rows,
              ElementsAreArray({Row("plain", "1", 2), Row("two, \"quoted\"\nlines", "0", 3), Row("", "1", 5),
                                Row("last", "0", 6)}));
}

TEST(LabelledRows, DoNotDependOnLineEndsOrAByteOrderMark) {
  const auto expected = ElementsAreArray({Row("a b", "x", 2), Row("c", "y", 3)});
  EXPECT_THAT(parse("text,label\na b,x\nc,y\n").rows, expected);
  EXPECT_THAT(parse("\xEF\xBB\xBFtext,label\r\na b,x\r\nc,y\r\n").rows, expected);
  EXPECT_THAT(parse("text,label\ra b,x\rc,y").rows, expected);
  EXPECT_THAT(parse("\xEF\xBB\xBF\n{\"text\": \"a b\", \"label\": \"x\"}\r\n{\"text\": \"c\", \"label\": "
                    "\"y\"}",
                    RowFormat::kJsonl)
                  .rows,
              expected);
  EXPECT_THAT(parse(" Text , LABEL \na b, x \nc,y\n").rows, expected);
}

TEST(LabelledRows, AreFoundBehindSemicolonsAndTabs) {
  EXPECT_THAT(parse("id;text;label\n1;a, b;x\n").rows, ElementsAreArray({Row("a, b", "x", 2)}));
  EXPECT_THAT(parse("text\tlabel\na, b\tx\n").rows, ElementsAreArray({Row("a, b", "x", 2)}));
}

TEST(LabelledRows, KeepQuotesThatQuoteNothing) {
  // Files with tabs often quote nothing, and texts begin with quotes.
  EXPECT_THAT(
      parse("label\ttext\n1\t\"Great\" he said\n0\t\"never closed\n1\t\"whole\"\n", RowFormat::kTsv).rows,
      ElementsAreArray(
          {Row("\"Great\" he said", "1", 2), Row("\"never closed", "0", 3), Row("whole", "1", 4)}));
  EXPECT_THAT(parse("text,label\n\"a \"b\" c\",x\n5\" wide,y\n\"open,z\n").rows,
              ElementsAreArray({Row("a \"b\" c", "x", 2), Row("5\" wide", "y", 3), Row("\"open", "z", 4)}));
}

TEST(LabelledRows, TakeNoPieceOfATextForALabel) {
  EXPECT_THAT(parse("label,text\nx,one, two,,three\ny,plain,,\n").rows,
              ElementsAreArray({Row("one, two,,three", "x", 2), Row("plain", "y", 3)}));
  EXPECT_EQ(message_of<FormatError>([] { parse("text,label\nplain,x,\none, two,x\n"); }),
            "[file:3] has 3 fields, expected 2");
}

TEST(LabelledRows, KeepTheQuotesOfATextThatIsNotQuotedAsAWhole) {
  EXPECT_THAT(parse("label,text\nx,He said,\"yes, \"\"no\"\"\",,\r\ny,plain\r\nx,\"a, b\", c").rows,
              ElementsAreArray({Row("He said,\"yes, \"\"no\"\"\"", "x", 2), Row("plain", "y", 3),
                                Row("\"a, b\", c", "x", 4)}));
}

TEST(LabelledRows, AreNotTheNamesThatRGivesThem) {
  const std::string said =
      "[file:1] every row has 3 fields, of which the first is in no other row, expected 2: name the column "
      "of "
      "the "
      "rows' names in the header, or put texts in quotes";
  constexpr std::string_view kNamed = "\"label\",\"text\"\n\"1\",\"x\",\"one, two\"\n\"2\",\"y\",\"plain\"\n";
  EXPECT_EQ(message_of<FormatError>([&] { parse(kNamed); }), said);
  EXPECT_EQ(message_of<FormatError>([&] {
              parse_labelled_rows(kNamed, "file", {.format = RowFormat::kCsv, .skip_bad_rows = true});
            }),
            said);
  // Labels are of more rows than one, and texts alone have none.
  EXPECT_EQ(parse_labelled_rows("text\none, two\nthree, four\n", "file", {.label_column = {}}).rows.size(),
            2u);
  EXPECT_THAT(
      parse("label,text\nx,one, two\ny,one, two\nx,one, three\n").rows,
      ElementsAreArray({Row("one, two", "x", 2), Row("one, two", "y", 3), Row("one, three", "x", 4)}));
  EXPECT_THAT(parse("\"\",\"label\",\"text\"\n\"1\",\"x\",\"one\"\n").rows,
              ElementsAreArray({Row("one", "x", 2)}));
}

TEST(LabelledRows, HaveNoColumnBehindADelimiterThatEndsTheHeader) {
  // As spreadsheets write it.
  EXPECT_THAT(parse("text,label,\nplain,x,\n").rows, ElementsAreArray({Row("plain", "x", 2)}));
  EXPECT_EQ(message_of<FormatError>([] { parse("text,label,\nplain,x,\none, two,x\n"); }),
            "[file:3] has 3 fields, expected 2");
  EXPECT_EQ(message_of<FormatError>([] { parse("text,label, ,\none, two,x,\n"); }),
            "[file:2] has 3 fields, expected 2");
  EXPECT_THAT(parse("label,text,\nx,plain,\ny,one, two\n").rows,
              ElementsAreArray({Row("plain", "x", 2), Row("one, two", "y", 3)}));
}

TEST(LabelledRows, DoNotLoseRowsBehindAQuoteThatIsNeverClosed) {
  EXPECT_THAT(parse("text,label\na,x\n\"open,y\nb,x\n\"two\nlines\",y\n\"\",x\n").rows,
              ElementsAreArray({Row("a", "x", 2), Row("\"open", "y", 3), Row("b", "x", 4),
                                Row("two\nlines", "y", 5), Row("", "x", 7)}));
}

TEST(LabelledRows, AreReadFromJsonLines) {
  EXPECT_THAT(parse("{\"text\": \"a\\n\\u00e9\", \"label\": \"x\", \"more\": [1]}\n\n"
                    "{\"text\": \"b\", \"label\": 3}\r\n{\"text\": \"c\", \"label\": true}\n"
                    "{\"text\": \"d\", \"label\": 0.5}\n",
                    RowFormat::kJsonl)
                  .rows,
              ElementsAreArray(
                  {Row("a\n\u00e9", "x", 1), Row("b", "3", 3), Row("c", "true", 4), Row("d", "0.5", 5)}));
  const LabelledRows several = parse(
      "{\"text\": \"a\", \"label\": [\"x\", 2]}\n{\"text\": \"b\", \"label\": []}\n", RowFormat::kJsonl);
  EXPECT_THAT(several.rows[0].labels, ElementsAreArray({"x", "2"}));
  EXPECT_THAT(several.rows[1].labels, IsEmpty());
}

TEST(LabelledRows, MayHaveSeveralLabels) {
  const LabelledRows rows =
      parse_labelled_rows("text,label\na,x; y\nb,\nc,;z;\n", "f.csv", {.label_separator = ";"});
  EXPECT_THAT(rows.rows[0].labels, ElementsAreArray({"x", "y"}));
  EXPECT_THAT(rows.rows[1].labels, IsEmpty());
  EXPECT_THAT(rows.rows[2].labels, ElementsAreArray({"z"}));
}

TEST(LabelledRows, KeepBytesThatAreNotUtf8InTexts) {
  EXPECT_THAT(parse("text,label\n\xC4\xE3\xBA\xC3,x\n").rows,
              ElementsAreArray({Row("\xC4\xE3\xBA\xC3", "x", 2)}));
  EXPECT_THAT(message_of<FormatError>([] { parse("text,label\na,\xC4\n"); }),
              HasSubstr("file:2] the label is not UTF-8"));
}

TEST(LabelledRows, NameTheLineOfWhatCannotBeUsed) {
  const auto csv = [](std::string_view text) { return message_of<FormatError>([&] { parse(text); }); };
  EXPECT_THAT(csv("text,label\na,x\n\"b\nb\", \n"), HasSubstr("[file:3] the label in column label is empty"));
  EXPECT_THAT(csv("text,label\na,x\nb\n"), HasSubstr("[file:3] has 1 fields, expected 2"));
  EXPECT_EQ(csv("review,stars\na,x\n"), "[file:1] has no column text, but review, stars");
  EXPECT_EQ(csv(""), "[file] is empty");
  EXPECT_EQ(csv(" \n"), "[file] is empty");
  EXPECT_EQ(csv("text,stars\na,x\n"), "[file:1] has no column label, but text, stars");
  EXPECT_EQ(csv("text,label,text\na,x,b\n"), "[file:1] has two columns text, expected one");
  EXPECT_EQ(csv("Text,TEXT,label\na,b,x\n"), "[file:1] has two columns text, expected one");
  EXPECT_THAT(parse("Text,text,label\na,b,x\n").rows, ElementsAreArray({Row("b", "x", 2)}));
  EXPECT_EQ(message_of<FormatError>(
                [] { parse_labelled_rows("text,more\na,b\n", "file", {.label_column = "Text"}); }),
            "[file:1] column text is to be both the text and the label, expected two columns");
  EXPECT_EQ(
      csv("text,label\na,x\n\"b,x\nc,y\nd\",y,\"z\"\n"),
      "[file:3] has 3 fields, expected 2: a quote is open from line 3 to 5, and may not be closed where it "
      "should be");
  EXPECT_EQ(csv("text,label\n\"a b\n"), "[file:2] has 1 fields, expected 2: a quote is not closed");
  EXPECT_EQ(csv("text,label\na,\"x\nb,y\"\n"),
            "[file:2] the label has several lines, as where a quote is not closed");
  std::string many = "a";
  for (int i = 0; i < 100; ++i) many += ",b";
  EXPECT_THAT(csv(many), testing::AllOf(testing::EndsWith("b, ..."), testing::SizeIs(testing::Lt(200))));
  EXPECT_THAT(csv("text,label\n\n"), HasSubstr("[file] has no usable row"));
  EXPECT_THAT(csv("\xFF\xFEt"), HasSubstr("UTF-16"));
  const auto json = [](std::string_view text) {
    return message_of<FormatError>([&] { parse(text, RowFormat::kJsonl); });
  };
  EXPECT_THAT(json("{\"text\": \"a\"}\n"), HasSubstr("[file:1] has no label"));
  EXPECT_THAT(json("\n{\"text\": 3, \"label\": 1}\n"), HasSubstr("[file:2] text is no text"));
  EXPECT_THAT(json("{\"text\": \"a\", \"label\": null}\n"), HasSubstr("label is null"));
  EXPECT_THAT(json("{\"text\": \"a\", \n"), HasSubstr("file:1"));
}

TEST(LabelledRows, LeaveOutAndCountWhatCannotBeUsed) {
  const LabelledRows rows =
      parse_labelled_rows("text,label\na,x\nb,\nc\nd,y\n", "f.csv", {.skip_bad_rows = true});
  EXPECT_THAT(rows.rows, ElementsAreArray({Row("a", "x", 2), Row("d", "y", 5)}));
  EXPECT_EQ(rows.bad, 2);
  EXPECT_THAT(rows.first_bad, HasSubstr("f.csv:3"));
}

TEST(LabelledRows, AreOfTheFormatThatTheFilesNameSays) {
  const test::TempDir directory;
  test::write_file(directory / "a.JSONL", "{\"text\": \"a\", \"label\": \"x\"}\n");
  test::write_file(directory / "a.tsv", "text\tlabel\na\tx\n");
  test::write_file(directory / "a.txt", "text,label\n\na,x\n");
  EXPECT_THAT(read_labelled_rows(directory / "a.JSONL").rows, ElementsAreArray({Row("a", "x", 1)}));
  EXPECT_THAT(read_labelled_rows(directory / "a.tsv").rows, ElementsAreArray({Row("a", "x", 2)}));
  EXPECT_THAT(read_labelled_rows(directory / "a.txt").rows, ElementsAreArray({Row("a", "x", 3)}));
  EXPECT_THAT(read_labelled_rows(directory / "a.tsv", {.label_column = {}}).rows.front().labels, IsEmpty());
  EXPECT_THAT(message_of<IoError>([&] { read_labelled_rows(directory / "none.csv"); }),
              HasSubstr("none.csv"));
}

TEST(LabelsOf, AreSortedAsNumbersWhereAllAre) {
  EXPECT_THAT(labels_of(parse("text,label\na,10\nb,9\nc,-1\nd,9\n").rows),
              ElementsAreArray({"-1", "9", "10"}));
  EXPECT_THAT(labels_of(parse("text,label\na,10\nb,9\nc,x\n").rows), ElementsAreArray({"10", "9", "x"}));
}

}  // namespace
}  // namespace gpt
