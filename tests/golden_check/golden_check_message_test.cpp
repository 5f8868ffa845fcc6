// Messages about folders that cannot be read name the file and what is wrong in it, once and in words of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"

namespace gpt::golden {
namespace {

using testing::HasSubstr;
using testing::Not;

void expect_message(const Verdict& verdict, const std::string& message) {
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_THAT(verdict.err, HasSubstr("error: " + message));
  for (const char* foreign : {"json.exception", "filesystem error", "directory iterator", "cannot use at()"})
    EXPECT_THAT(verdict.err, Not(HasSubstr(foreign)));
}

TEST(GoldenCheckMessage, NamesTheFileAndTheKeyThatIsMissing) {
  FolderCopy folder(committed("models/tiny"));
  const auto expect_without = [&](const std::string& pointer, const std::string& message) {
    const Json::json_pointer whole(pointer);
    edit_json(folder / "golden.json", [&](Json& json) { json[whole.parent_pointer()].erase(whole.back()); });
    const Verdict verdict = folder.judge();
    expect_message(verdict, folder.path().string() + "/golden.");
    EXPECT_THAT(verdict.err, HasSubstr(message));
    folder.restore();
  };
  expect_without("/adamw", "golden.json has no adamw");
  expect_without("/adamw/beta2", "adamw has no beta2");
  expect_without("/greedy", "golden.json has no greedy");
  expect_without("/tolerances", "golden.json has no tolerances");
  expect_without("/tolerances/logits/max_abs", "tolerances.logits has no max_abs");
}

TEST(GoldenCheckMessage, NamesTheFileAndTheValueOfAnotherType) {
  FolderCopy folder(committed("models/tiny"));
  const auto expect_with = [&](const std::string& pointer, const Json& value, const std::string& message) {
    edit_json(folder / "golden.json", [&](Json& json) { json[Json::json_pointer(pointer)] = value; });
    expect_message(folder.judge(), folder.path().string() + "/golden.json: " + message);
    folder.restore();
  };
  expect_with("/loss", "low", "loss is \"low\", expected a number");
  expect_with("/beam/1/early_stopping", 3, "beam[1].early_stopping is 3, expected true or false");
  expect_with("/beam/1/scores", 3, "beam[1].scores is 3, expected a list of numbers");
  expect_with("/greedy/0/max_new_tokens", 32.3, "greedy[0].max_new_tokens is 32.3, expected an integer");
  expect_with("/greedy/0/eos_token_id", 68.7, "greedy[0].eos_token_id is 68.7, expected an integer");
  expect_with("/beam/1/num_beams", 4.04, "beam[1].num_beams is 4.04, expected an integer");
  expect_with("/beam/1/eos_token_id", 4294967297, "beam[1].eos_token_id holds 4294967297");
}

TEST(GoldenCheckMessage, NamesTheLineOfARow) {
  FolderCopy folder(committed("tokenizer"));
  Settings settings;
  settings.tokenizer = fs::path(GPT_SOURCE_DIR) / "examples/models/demo";
  edit_row(folder / "decode.jsonl", 2, [](Json& row) { row["hex"] = "490"; });
  expect_message(folder.judge(settings),
                 folder.path().string() + "/decode.jsonl:3: hex \"490\" has an odd number of digits");
  folder.restore();
  edit_row(folder / "encode.jsonl", 1, [](Json& row) { row.erase("ids"); });
  expect_message(folder.judge(settings), folder.path().string() + "/encode.jsonl:2: a row has no ids");
  FolderCopy sampling(committed("sampling"));
  edit_row(sampling / "sampling.jsonl", 4, [](Json& row) { row["params"]["top_k"] = 2.5; });
  const Verdict verdict = sampling.judge();
  expect_message(verdict, sampling.path().string() + "/sampling.jsonl:5: ");
  EXPECT_THAT(verdict.err, HasSubstr("top_k is 2.5, expected an integer"));
}

TEST(GoldenCheckMessage, NamesAPathThatIsNoFolder) {
  const test::TempDir folder;
  test::write_file(folder / "file", "");
  expect_message(judge_paths({folder / "file"}), (folder / "file").string() + " is no folder");
  expect_message(judge_paths({folder / "none"}), (folder / "none").string() + " does not exist");
  expect_message(judge_paths({fs::path("/nonexist")}), "/nonexist does not exist");
}

TEST(GoldenCheckMessage, NamesTheFolderOnce) {
  FolderCopy folder(committed("models/tiny"));
  edit_json(folder / "golden.json", [](Json& json) { json["loss"] = nullptr; });
  const Verdict verdict = folder.judge();
  const std::string name = folder.path().string();
  EXPECT_EQ(verdict.err.find(name), verdict.err.rfind(name)) << verdict.err;
}

}  // namespace
}  // namespace gpt::golden
