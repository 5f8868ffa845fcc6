// What is made durable, and what is said when it cannot be.
#include "core/directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

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
  EXPECT_TRUE(std::filesystem::is_directory(dir / "a/b"));
  test::write_file(dir / "f", "");
  for (const char* path : {"f", "f/g"})
    expect_error<IoError>([&] { make_directory(dir / path); }, {path, "cannot create the directory: "});
}

}  // namespace
}  // namespace gpt
