// What is named like expected values, and the judge does not know, has a line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(GoldenCheckStranger, IsSkippedAsAFileOfRows) {
  FolderCopy folder(committed("sampling"));
  test::write_file(folder / "mystery.jsonl", "{}\n");
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(verdict.with_status("skip"), ElementsAreArray({"mystery.jsonl"}));
  const test::TempDir alone;
  test::write_file(alone / "mystery.jsonl", "{}\n");
  EXPECT_EQ(judge_paths({alone.path()}).exit_status, 2);
  EXPECT_EQ(judge_paths({alone.path()}).line("mystery.jsonl").status, "skip");
}

TEST(GoldenCheckStranger, IsSkippedAsAFieldOfRows) {
  FolderCopy sampling(committed("sampling"));
  edit_row(sampling / "sampling.jsonl", 3, [](Json& row) { row["foo"] = 1; });
  EXPECT_THAT(sampling.judge().with_status("skip"), ElementsAreArray({"sampling.jsonl[*].foo"}));

  FolderCopy tokenizer(committed("tokenizer"));
  Settings settings;
  settings.tokenizer = fs::path(GPT_SOURCE_DIR) / "examples/models/demo";
  EXPECT_THAT(tokenizer.judge(settings).with_status("skip"), IsEmpty());
  for (const char* file : {"encode.jsonl", "encode_special.jsonl", "decode.jsonl", "stream_decode.jsonl",
                           "invalid_utf8.jsonl", "pieces.jsonl"})
    edit_row(tokenizer / file, 1, [](Json& row) { row["foo"] = 1; });
  const Verdict verdict = tokenizer.judge(settings);
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(
      verdict.with_status("skip"),
      ElementsAreArray({"decode.jsonl[*].foo", "encode.jsonl[*].foo", "encode_special.jsonl[*].foo",
                        "invalid_utf8.jsonl[*].foo", "pieces.jsonl[*].foo", "stream_decode.jsonl[*].foo"}));
}

TEST(GoldenCheckStranger, FailsAsHalfOfAPair) {
  FolderCopy folder(committed("models/ctx1"));
  fs::copy(folder / "golden.safetensors", folder / "golden_xyz.safetensors");
  const Verdict half = folder.judge();
  EXPECT_EQ(half.exit_status, 1);
  EXPECT_THAT(half.with_status("FAIL"), ElementsAreArray({"golden_xyz.safetensors"}));
  EXPECT_THAT(half.err, HasSubstr("golden_xyz.json is missing"));
  fs::copy(folder / "golden.json", folder / "golden_xyz.json");
  const Verdict pair = folder.judge();
  EXPECT_EQ(pair.exit_status, 0) << pair.err;
  EXPECT_EQ(pair.line("golden_xyz.json").status, "skip");
  EXPECT_EQ(pair.line("golden_xyz.safetensors").status, "skip");
  fs::remove(folder / "golden_xyz.safetensors");
  EXPECT_THAT(folder.judge().with_status("FAIL"), ElementsAreArray({"golden_xyz.json"}));
}

TEST(GoldenCheckStranger, IsNoAdapterOfWhichAHalfIsMissing) {
  FolderCopy folder(committed("models/ctx1"));
  fs::copy(committed("models/tiny/golden_lora.safetensors"), folder / "golden_lora.safetensors");
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_THAT(verdict.err, HasSubstr("lora"));
}

}  // namespace
}  // namespace gpt::golden
