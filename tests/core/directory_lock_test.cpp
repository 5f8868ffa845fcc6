#include "gpt/core/directory_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace {

int g_lock_error = 0;                              // what flock() fails with
thread_local std::function<void()> g_before_lock;  // what happens in this thread, once, before it is at work

}  // namespace

// In the place of the C library's, for this program: every file system here knows locks.
extern "C" int flock(int fd, int operation) {
  if (const auto first = std::exchange(g_before_lock, {})) first();
  if (g_lock_error == 0) return static_cast<int>(::syscall(SYS_flock, fd, operation));
  errno = g_lock_error;
  return -1;
}

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDir;

class WorkingDirectory {
 public:
  explicit WorkingDirectory(const fs::path& path) { fs::current_path(path); }
  ~WorkingDirectory() { fs::current_path(before_); }
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;

 private:
  fs::path before_ = fs::current_path();
};

void expect_taken(const fs::path& directory) {
  expect_error<BusyError>([&] { DirectoryLock{directory}; },
                          {directory.string() + "] is in use by another run"});
}

TEST(DirectoryLock, RefusesASecondOneWhileItOrACopyLives) {
  const TempDir dir;
  std::optional<DirectoryLock> lock(dir.path()), copy = lock;
  expect_taken(dir.path());
  EXPECT_NO_THROW(DirectoryLock(dir / "below"));
  lock.reset();
  expect_taken(dir.path());
  copy.reset();
  EXPECT_NO_THROW(DirectoryLock{dir.path()});
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(DirectoryLock, TakesWhatItMadeAwayUnlessSomethingWasPutThere) {
  const TempDir dir;
  {
    const DirectoryLock lock(dir / "a/b");
    EXPECT_TRUE(fs::exists(dir / "a/b/.lock"));
  }
  EXPECT_FALSE(fs::exists(dir / "a"));
  {
    const DirectoryLock lock(dir / "a/b");
    test::write_file(dir / "a/b/c", "kept");
  }
  EXPECT_EQ(test::read_file(dir / "a/b/c"), "kept");
  EXPECT_FALSE(fs::exists(dir / "a/b/.lock"));
}

// A process that was killed, also one that has started another one, which goes on.
TEST(DirectoryLock, EndsWithItsProcess) {
  const TempDir dir;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const DirectoryLock lock(dir.path());
    const pid_t sleeper = ::fork();
    if (sleeper == 0) {
      ::execl("/bin/sleep", "sleep", "100", nullptr);
      ::_exit(1);
    }
    const bool told = ::write(ends[1], &sleeper, sizeof sleeper) == sizeof sleeper;
    ::close(ends[1]);
    while (told) ::pause();
    ::_exit(1);
  }
  ::close(ends[1]);
  pid_t sleeper = -1;
  ASSERT_EQ(::read(ends[0], &sleeper, sizeof sleeper), static_cast<ssize_t>(sizeof sleeper));
  char more = 0;
  EXPECT_EQ(::read(ends[0], &more, 1), 0);  // when the sleeper sleeps
  ::close(ends[0]);
  expect_taken(dir.path());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(dir / ".lock"));
  EXPECT_NO_THROW(DirectoryLock{dir.path()});
  EXPECT_FALSE(fs::exists(dir / ".lock"));
  ::kill(sleeper, SIGKILL);
}

TEST(DirectoryLock, StaysWhereItBeganWhenTheWorkingDirectoryChanges) {
  const TempDir dir;
  fs::create_directories(dir / "other/made");
  const WorkingDirectory restored(dir.path());
  std::optional<DirectoryLock> lock("made");
  expect_taken("made");
  fs::current_path(dir / "other");
  lock.reset();
  EXPECT_TRUE(fs::exists(dir / "other/made"));
  EXPECT_FALSE(fs::exists(dir / "made"));
}

// Between the two calls of the system the file may become nobody's: who held it removes it, and the next one makes another.
TEST(DirectoryLock, IsNotOnAFileThatIsGone) {
  const TempDir dir;
  std::optional<DirectoryLock> next;
  g_before_lock = [&] {
    fs::remove(dir / ".lock");
    next.emplace(dir.path());
  };
  expect_taken(dir.path());
  EXPECT_TRUE(next);
  EXPECT_TRUE(fs::exists(dir / ".lock"));
  next.reset();
  g_before_lock = [&] { fs::remove(dir / ".lock"); };
  const DirectoryLock lock(dir.path());
  expect_taken(dir.path());
}

TEST(DirectoryLock, IsOneThreadsAtATimeWhateverTheyRemove) {
  const TempDir dir;
  std::atomic<int> holders = 0, most = 0, taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) try {
          const DirectoryLock lock(dir.path());
          if (++holders > 1) ++most;
          ++taken;
          --holders;
        } catch (const BusyError&) {
        }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 0);
  EXPECT_GT(taken, 0);
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(DirectoryLock, GoesWithoutWhereThereAreNoLocks) {
  const TempDir dir;
  for (const int error : {ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL, EBADF}) {
    g_lock_error = error;
    const std::optional<DirectoryLock> first(dir.path());
    EXPECT_NO_THROW(DirectoryLock{dir.path()}) << error;
    g_lock_error = 0;
  }
}

TEST(DirectoryLock, NamesWhatIsInTheWay) {
  const TempDir dir;
  test::write_file(dir / "file", "");
  expect_error<IoError>([&] { DirectoryLock(dir / "file"); }, {"file]", "cannot create the directory"});
  fs::create_directories(dir / "used/.lock");
  expect_error<IoError>([&] { DirectoryLock(dir / "used"); }, {"used/.lock]", "cannot be made"});
  fs::create_directory(dir / "astray");
  fs::create_symlink(dir / "nowhere/file", dir / "astray/.lock");
  expect_error<IoError>([&] { DirectoryLock(dir / "astray"); }, {"astray/.lock]", "cannot be made"});
}

}  // namespace
}  // namespace gpt
