// What is made durable, and what is said when it cannot be.
#include "core/directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace {

int g_directory_error = 0;  // of every fsync of a directory

}  // namespace

// In the place of the C library's, for this program: no file system fails when it is asked to.
extern "C" int fsync(int fd) {
  struct stat info {};
  if (g_directory_error == 0 || ::fstat(fd, &info) != 0 || !S_ISDIR(info.st_mode))
    return static_cast<int>(::syscall(SYS_fsync, fd));
  errno = g_directory_error;
  return -1;
}

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;

class FailingDirectory {
 public:
  explicit FailingDirectory(int error) { g_directory_error = error; }
  ~FailingDirectory() { g_directory_error = 0; }
  FailingDirectory(const FailingDirectory&) = delete;
  FailingDirectory& operator=(const FailingDirectory&) = delete;
};

TEST(Directory, ReportsWhatTheDiskDoesNotTakeAndLeavesToTheSystemWhatItCannotSync) {
  const test::TempDir dir;
  sync_directory(dir.path());
  for (const int error : {EIO, ENOSPC, EDQUOT}) {
    const FailingDirectory failing(error);
    expect_error<IoError>([&] { sync_directory(dir.path()); },
                          {dir.path().string(), "could not be brought to the disk"});
  }
  const FailingDirectory failing(EINVAL);
  EXPECT_NO_THROW(sync_directory(dir.path()));
  EXPECT_NO_THROW(sync_directory(dir / "missing"));
}

TEST(Directory, OfAnAtomicFileIsReportedToo) {
  const test::TempDir dir;
  const FailingDirectory failing(EIO);
  expect_error<IoError>([&] { write_file_atomically(dir / "f", "new"); },
                        {dir.path().string(), "could not be brought to the disk"});
  EXPECT_EQ(test::read_file(dir / "f"), "new");
}

TEST(Directory, IsMadeWithThoseItIsIn) {
  const test::TempDir dir;
  make_directory(dir / "a/b");
  make_directory(dir / "a/b");
  EXPECT_TRUE(fs::is_directory(dir / "a/b"));
  test::write_file(dir / "f", "");
  for (const char* path : {"f", "f/g"})
    expect_error<IoError>([&] { make_directory(dir / path); }, {path, "cannot create the directory: "});
}

TEST(Directory, NamesWhatIsInItOrSaysWhyNot) {
  const test::TempDir dir;
  test::write_file(dir / "f", "");
  fs::create_directory(dir / ".d");
  const auto names_in = [](const fs::path& directory, std::error_code& error) {
    std::vector<std::string> names;
    error = for_each_name(directory, [&](std::string_view name) { names.emplace_back(name); });
    std::ranges::sort(names);
    return names;
  };
  std::error_code error;
  EXPECT_EQ(names_in(dir.path(), error), (std::vector<std::string>{".d", "f"}));
  EXPECT_FALSE(error) << error.message();
  EXPECT_EQ(names_in(dir / "none", error), std::vector<std::string>());
  EXPECT_EQ(error, std::errc::no_such_file_or_directory);
  names_in(dir / "f", error);
  EXPECT_EQ(error, std::errc::not_a_directory);
}

TEST(Directory, GoesWithAllThatIsInIt) {
  const test::TempDir dir;
  test::write_file(dir / "kept", "");
  fs::create_directories(dir / "tree/a/b");
  for (const char* file : {"tree/f", "tree/a/f", "tree/a/b/f"}) test::write_file(dir / file, "");
  fs::create_directory_symlink(dir.path(), dir / "tree/a/link");
  EXPECT_FALSE(remove_tree(dir / "tree"));
  EXPECT_FALSE(fs::exists(dir / "tree"));
  EXPECT_FALSE(remove_tree(dir / "tree"));
  EXPECT_EQ(remove_tree(dir / "kept/f"), std::errc::not_a_directory);
  EXPECT_TRUE(fs::exists(dir / "kept"));
  EXPECT_FALSE(remove_tree(dir / "kept"));
  EXPECT_FALSE(fs::exists(dir / "kept"));
}

TEST(OutputDirectory, GoesAgainWithTheParentsThatWereMadeForIt) {
  const test::TempDir dir;
  fs::create_directory(dir / "old");
  {
    const OutputDirectory output(dir / "old/a/b");
    EXPECT_TRUE(fs::is_directory(dir / "old/a/b"));
  }
  EXPECT_TRUE(fs::is_empty(dir / "old"));
  { const OutputDirectory there(dir / "old"); }
  EXPECT_TRUE(fs::exists(dir / "old"));
}

TEST(OutputDirectory, StaysWhenItIsKept) {
  const test::TempDir dir;
  {
    OutputDirectory output(dir / "a/b");
    output.keep();
  }
  EXPECT_TRUE(fs::exists(dir / "a/b"));
}

TEST(OutputDirectory, StaysAsFarAsOthersHavePutFilesInto) {
  const test::TempDir dir;
  {
    const OutputDirectory output(dir / "a/b");
    test::write_file(dir / "a/file", "another's");
  }
  EXPECT_EQ(test::read_file(dir / "a/file"), "another's");
  EXPECT_FALSE(fs::exists(dir / "a/b"));
}

TEST(OutputDirectory, LeavesNothingOfWhatItMadeHalf) {
  const test::TempDir dir;
  test::write_file(dir / "file", "");
  expect_error<IoError>([&] { OutputDirectory(dir / "a/../file/b"); }, {"cannot create the directory: "});
  EXPECT_FALSE(fs::exists(dir / "a"));
  expect_error<IoError>([&] { OutputDirectory(""); }, {"cannot create the directory: "});
}

TEST(OutputDirectory, IsWhereItWasMadeWhenTheWorkingDirectoryChanges) {
  const test::TempDir dir;
  fs::create_directories(dir / "other/a");
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  {
    const OutputDirectory output("a");
    EXPECT_EQ(output.path(), fs::current_path() / "a");
    fs::current_path(dir / "other");
  }
  fs::current_path(before);
  EXPECT_TRUE(fs::exists(dir / "other/a"));
  EXPECT_FALSE(fs::exists(dir / "a"));
}

}  // namespace
}  // namespace gpt
