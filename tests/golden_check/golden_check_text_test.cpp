// The same for tokenizer folders and what hangs on a text corpus.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"
#include "gpt/core/error.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

// A tokenizer folder made here, for the vocabulary of training/demo-model: its ids 0..93 are the bytes 33..126, 188..220
// the bytes 0..32, 255 is byte 173, 383 is <|endoftext|>.
class GoldenCheckTokenizer : public testing::Test {
 protected:
  GoldenCheckTokenizer() {
    settings_.tokenizer = committed("training/demo-model");
    write("encode.jsonl",
          {R"({"cat":"a","text":"!","ids":[0]})", R"({"cat":"b","text":"~\u0001","ids":[93,189]})"});
    write("encode_special.jsonl",
          {R"({"text":"!<|endoftext|>~","ids_ordinary":[0,27,91,68,267,78,69,83,68,87,83,91,29,93],)"
           R"("ids_special":[0,383,93]})"});
    write("decode.jsonl", {R"({"ids":[0,255,93],"hex":"21ad7e"})"});
    write("stream_decode.jsonl", {R"({"ids":[0,255,93],"chunks":["!","\ufffd","~"],"final":""})"});
    write("invalid_utf8.jsonl", {R"({"hex":"ad","ids_lossless":[255],"ids_replaced":[171,123,121]})"});
    write("pieces.jsonl", {R"({"hex":"217e","ids":[0,93]})"});
    test::write_file(
        directory_ / "char_classes.json",
        R"({"S":[[9,13],[32,32]],"L":[[65,90],[97,122]],"N":[[48,57]],"unassigned":[[128,1114111]]})");
  }

  void write(const std::string& file, const std::vector<std::string>& rows) {
    std::string text;
    for (const std::string& row : rows) text += row + "\n";
    test::write_file(directory_ / file, text);
  }
  Verdict judge() const { return judge_paths({directory_.path()}, settings_); }

  test::TempDir directory_;
  Settings settings_;
};

TEST_F(GoldenCheckTokenizer, PassesWhatIsRight) {
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(verdict.with_status("ok"),
              ElementsAreArray({"char_classes.json", "decode.jsonl", "encode.jsonl", "encode_special.jsonl",
                                "invalid_utf8.jsonl", "pieces.jsonl", "stream_decode.jsonl"}));
}

TEST_F(GoldenCheckTokenizer, CountsTheWrongRowsAndNamesTheFirst) {
  const struct {
    std::string file;
    std::size_t row;
    std::string field;
    Json value;
  } cases[] = {
      {"encode.jsonl", 1, "ids", {93, 190}},
      {"encode.jsonl", 0, "text", "\""},
      {"encode_special.jsonl", 0, "ids_special", {0, 382, 93}},
      {"encode_special.jsonl", 0, "ids_ordinary", {0}},
      {"decode.jsonl", 0, "hex", "21ae7e"},
      {"stream_decode.jsonl", 0, "chunks", {"!", "", "\xef\xbf\xbd~"}},
      {"stream_decode.jsonl", 0, "final", "x"},
      {"invalid_utf8.jsonl", 0, "ids_lossless", {254}},
      {"invalid_utf8.jsonl", 0, "ids_replaced", {255}},
      {"pieces.jsonl", 0, "ids", {0}},
  };
  for (const auto& c : cases) {
    const std::string before = test::read_file(directory_ / c.file);
    edit_row(directory_ / c.file, c.row, [&](Json& row) { row[c.field] = c.value; });
    const Verdict verdict = judge();
    EXPECT_EQ(verdict.exit_status, 1);
    EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({c.file})) << c.field;
    EXPECT_EQ(verdict.line(c.file).error, "1");
    EXPECT_EQ(verdict.line(c.file).tolerance, "0");
    EXPECT_THAT(verdict.err, HasSubstr("line " + std::to_string(c.row + 1)));
    test::write_file(directory_ / c.file, before);
  }
}

TEST_F(GoldenCheckTokenizer, TakesARowThatThrowsForAWrongOne) {
  edit_row(directory_ / "decode.jsonl", 0, [](Json& row) { row["ids"] = {5000}; });
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.exit_status, 1);
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({"decode.jsonl"}));
  EXPECT_THAT(verdict.err, HasSubstr("5000"));
}

TEST_F(GoldenCheckTokenizer, CountsWrongCharacterClasses) {
  edit_json(directory_ / "char_classes.json", [](Json& json) { json["L"][0] = {65, 88}; });
  const Verdict verdict = judge();
  EXPECT_EQ(verdict.exit_status, 1);
  EXPECT_EQ(verdict.line("char_classes.json").error, "2");
  EXPECT_THAT(verdict.err, HasSubstr("89"));
}

TEST_F(GoldenCheckTokenizer, RefusesMalformedFilesAndAMissingVocabulary) {
  settings_.tokenizer.reset();
  EXPECT_EQ(judge().exit_status, 2);
  EXPECT_THAT(judge().err, HasSubstr("--tokenizer"));
  settings_.tokenizer = committed("training/demo-model");
  for (const std::string row : {"{\"ids\":[0,", "{\"ids\":[0]}", "{\"ids\":\"0\",\"hex\":\"21\"}",
                                "{\"ids\":[0],\"hex\":\"2\"}", "{\"ids\":[0.5],\"hex\":\"21\"}"}) {
    write("decode.jsonl", {row});
    const Verdict verdict = judge();
    EXPECT_EQ(verdict.exit_status, 2) << row;
    EXPECT_THAT(verdict.err, HasSubstr(directory_.path().generic_string()));
  }
}

Settings with_corpus() {
  Settings settings;
  settings.corpus = committed("training/corpus.txt");
  return settings;
}

void expect_failure_after(FolderCopy& folder, const std::string& file, const std::string& pointer,
                          const std::string& quantity, const std::function<Json(const Json&)>& change) {
  edit_json(folder / file, [&](Json& json) {
    Json& value = json[Json::json_pointer(pointer)];
    value = change(value);
  });
  Settings settings = with_corpus();
  settings.train_steps = 2;
  const Verdict verdict = folder.judge(settings);
  EXPECT_EQ(verdict.exit_status, 1) << quantity << '\n' << verdict.err;
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({quantity}));
  folder.restore();
}

Json plus_one(const Json& number) { return number.get<std::int64_t>() + 1; }
Json grown(const Json& number) { return number.get<double>() * (1 + 2.5e-4); }

TEST(GoldenCheckTraining, FailsOnARecordedLossOrCount) {
  FolderCopy folder(committed("training/train_parity"));
  Settings settings = with_corpus();
  settings.train_steps = 2;
  const Verdict untouched = folder.judge(settings);
  EXPECT_EQ(untouched.exit_status, 0) << untouched.err;
  for (const char* quantity :
       {"steps[1].loss", "steps[1].grad_norm", "steps[7].lr", "val_loss_first_64_windows"})
    EXPECT_EQ(untouched.line(quantity).status, "ok") << quantity;
  EXPECT_EQ(untouched.line("steps[2].loss").status, "skip");
  EXPECT_EQ(untouched.line("final/wte.weight").status, "input");
  for (const char* loss : {"loss", "grad_norm", "lr"})
    expect_failure_after(folder, "losses.json", gpt::concat("/steps/1/", loss),
                         gpt::concat("steps[1].", loss), grown);
  expect_failure_after(folder, "losses.json", "/train_tokens", "train_tokens", plus_one);
  expect_failure_after(folder, "losses.json", "/val_tokens", "val_tokens", plus_one);
  expect_failure_after(folder, "losses.json", "/val_loss_first_64_windows", "val_loss_first_64_windows",
                       grown);
}

TEST(GoldenCheckTraining, SkipsLossesWithoutTheCorpusAndRefusesAMissingPart) {
  FolderCopy folder(committed("training/train_parity"));
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_THAT(verdict.err, HasSubstr("nothing was checked"));
  EXPECT_THAT(verdict.with_status("ok"), IsEmpty());
  EXPECT_EQ(verdict.line("steps[0].loss").status, "skip");
  fs::remove(folder / "init/model.safetensors");
  EXPECT_EQ(folder.judge(with_corpus()).exit_status, 2);
}

TEST(GoldenCheckTraining, FailsOnATrainedCheckpointsText) {
  FolderCopy folder(committed("training/demo-model"));
  EXPECT_EQ(folder.judge(with_corpus()).exit_status, 0);
  expect_failure_after(folder, "val.json", "/val_loss", "val_loss", grown);
  expect_failure_after(folder, "val.json", "/val_tokens", "val_tokens", plus_one);
  expect_failure_after(folder, "golden.json", "/greedy/1/generated/4", "greedy[1].generated", plus_one);
  expect_failure_after(folder, "golden.json", "/greedy/1/text", "greedy[1].text",
                       [](const Json& text) { return text.get<std::string>() + " "; });
  expect_failure_after(folder, "golden.json", "/greedy/1/prompt", "greedy[1].prompt_ids",
                       [](const Json& text) { return text.get<std::string>() + " "; });
}

}  // namespace
}  // namespace gpt::golden
