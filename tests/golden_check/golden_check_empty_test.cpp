// Where there is nothing to check, nothing is well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"
#include "support/safetensors_bytes.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

TEST(GoldenCheckEmpty, RefusesExpectedValuesWithoutAny) {
  FolderCopy folder(committed("models/ctx1"));
  test::write_file(folder / "golden.json", R"({"tolerances":{}})");
  test::write_file(folder / "golden.safetensors", test::safetensors_bytes("{}      ", ""));
  const test::TempDir parent;  // a good one beside it does not make up for it
  fs::copy(folder.path(), parent / "emptied");
  fs::copy(committed("models/ctx1"), parent / "whole");
  for (const fs::path& path : {folder.path(), parent.path()}) {
    const Verdict verdict = judge_paths({path});
    EXPECT_EQ(verdict.exit_status, 2);
    EXPECT_THAT(verdict.err, HasSubstr("golden.json"));
    EXPECT_THAT(verdict.err, HasSubstr("nothing in it"));
  }
  test::write_file(folder / "golden.json", "{}");
  EXPECT_EQ(folder.judge().exit_status, 2);
}

TEST(GoldenCheckEmpty, RefusesRowsAndSchedulesWithoutAny) {
  const test::TempDir folder;
  test::write_file(folder / "schedules.json", "{}");
  const Verdict verdict = judge_paths({committed("models/ctx1"), folder.path()});
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_THAT(verdict.err, HasSubstr(folder.path().string() + ": nothing in it"));
}

TEST(GoldenCheckEmpty, RefusesARunThatComparesNothing) {
  const test::TempDir folder;
  test::write_file(folder / "schedules.json", R"({"other": 1})");
  const Verdict verdict = judge_paths({folder.path()});
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_EQ(verdict.summary, "0 passed, 0 failed, 1 skipped");
  EXPECT_THAT(verdict.err, HasSubstr("nothing was checked"));
}

TEST(GoldenCheckEmpty, SkipsACheckpointWithoutExpectedValues) {
  const test::TempDir parent;
  fs::copy(committed("models/ctx1"), parent / "bare");
  fs::copy(committed("models/ctx1"), parent / "whole");
  fs::remove(parent / "bare/golden.json");
  fs::remove(parent / "bare/golden.safetensors");
  const Verdict verdict = judge_paths({parent.path()});
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(verdict.with_status("skip"), ElementsAreArray({"golden.json"}));
  EXPECT_EQ(verdict.line("golden.json").folder, (parent / "bare").generic_string());
  const Verdict alone = judge_paths({parent / "whole", parent / "bare"});
  EXPECT_EQ(alone.exit_status, 2);
  EXPECT_THAT(alone.err, HasSubstr("bare: no folder of expected values"));
}

}  // namespace
}  // namespace gpt::golden
