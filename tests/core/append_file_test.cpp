// Files that grow by whole records, and the checksum of TensorFlow's.
#include "core/append_file.h"

#include <gtest/gtest.h>

#include <string>

#include "core/crc32c.h"
#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

namespace gpt::test {
namespace {

TEST(AppendFile, AddsToWhatIsThere) {
  const TempDir dir;
  AppendFile(dir / "records").append("one\n");
  AppendFile file(dir / "records");
  file.append("two\n");
  EXPECT_EQ(read_file(dir / "records"), "one\ntwo\n");  // before the file is closed
  file.append("three\n");
  EXPECT_EQ(read_file(dir / "records"), "one\ntwo\nthree\n");
}

TEST(AppendFile, EndsWithAWholeRecordOnAFullDisk) {
  const TempDir dir;
  const int outcome = with_file_size_limit(10, [&] {
    AppendFile file(dir / "records");
    file.append("123456\n");
    return static_cast<int>(outcome_of([&] { file.append("7890\n"); }, "records"));
  });
  EXPECT_EQ(outcome, kIoErrorNamingTheFile);
  EXPECT_EQ(read_file(dir / "records"), "123456\n");
}

TEST(AppendFile, NamesWhatCannotBeOpened) {
  const TempDir dir;
  expect_error<IoError>([&] { AppendFile{dir / "nowhere/records"}; },
                        {"nowhere/records", "cannot be written"});
  expect_error<IoError>([&] { AppendFile{dir.path()}; }, {dir.path().string(), "directory"});
}

TEST(Crc32c, GivesThePublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

}  // namespace
}  // namespace gpt::test
