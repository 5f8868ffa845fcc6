#include "gpt/core/directory_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace {

int g_lock_error = 0;                              // what flock() fails with
thread_local std::function<void()> g_before_lock;  // what happens in this thread, once, before it is at work
// The same of open(), which fails with what that returns, unless it is 0. A pointer: open() is called to the thread's end.
thread_local const std::function<int()>* g_before_open = nullptr;

}  // namespace

// In the place of the C library's, for this program: every file system here knows locks.
extern "C" int flock(int fd, int operation) {
  if (const auto first = std::exchange(g_before_lock, {})) first();
  if (g_lock_error == 0) return static_cast<int>(::syscall(SYS_flock, fd, operation));
  errno = g_lock_error;
  return -1;
}

// And no signal or other process comes between when it is asked to.
extern "C" int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  if (const auto* first = std::exchange(g_before_open, nullptr))
    if (const int error = (*first)(); error != 0) {
      errno = error;
      return -1;
    }
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDir;
using ::testing::HasSubstr;

class FailingLocks {
 public:
  explicit FailingLocks(int error) { g_lock_error = error; }
  ~FailingLocks() { g_lock_error = 0; }
  FailingLocks(const FailingLocks&) = delete;
  FailingLocks& operator=(const FailingLocks&) = delete;
};

// A process that was forked and has all that is open here. It does not outlive this object, or the test program, by being at rest.
class Child {
 public:
  template <class F>
  explicit Child(F body) {
    if (::pipe2(told_, O_CLOEXEC) != 0 || ::pipe2(rest_, O_CLOEXEC) != 0 || (pid_ = ::fork()) < 0)
      throw std::runtime_error("cannot fork");
    if (pid_ == 0) {
      ::close(told_[0]);
      ::close(rest_[1]);
      try {
        body(*this);
      } catch (...) {
        tell("an exception");
      }
      ::_exit(0);
    }
    ::close(told_[1]);
    ::close(rest_[0]);
  }
  ~Child() {
    ::close(told_[0]);
    ::close(rest_[1]);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // In the child.
  void tell(std::string_view text) const {
    if (::write(told_[1], text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(1);
  }
  void rest() const {
    ::close(told_[1]);
    char none = 0;
    while (::read(rest_[0], &none, 1) < 0 && errno == EINTR) {
    }
  }
  // What ends when the child does.
  int rest_descriptor() const { return rest_[0]; }

  // In its parent: all that it tells until it is at rest or ends.
  std::string told() const {
    std::string text;
    char part[256];
    for (ssize_t size = 0; (size = ::read(told_[0], part, sizeof part)) > 0;)
      text.append(part, static_cast<std::size_t>(size));
    return text;
  }
  void kill() const {
    ::kill(pid_, SIGKILL);
    ::waitid(P_PID, static_cast<id_t>(pid_), nullptr, WEXITED | WNOWAIT);
  }

 private:
  int told_[2] = {-1, -1}, rest_[2] = {-1, -1};
  pid_t pid_ = -1;
};

class WorkingDirectory {
 public:
  explicit WorkingDirectory(const fs::path& path) { fs::current_path(path); }
  ~WorkingDirectory() { fs::current_path(before_); }
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;

 private:
  fs::path before_ = fs::current_path();
};

constexpr std::string_view kNoOtherUser = "there is no other user to be";

// What a user without root's rights gets to hear: one of another name, if this one has them.
std::string told_without_rights(const fs::path& directory) {
  return Child([&](const Child& self) {
           if (::getuid() == 0 &&
               (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0))
             return self.tell(kNoOtherUser);
           try {
             const DirectoryLock lock(directory);
             self.tell("taken");
           } catch (const Error& error) {
             self.tell(error.what());
           }
         })
      .told();
}

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
  const Child child([&](const Child& self) {
    const DirectoryLock lock(dir.path());
    if (::fork() == 0) {
      ::dup2(self.rest_descriptor(), STDIN_FILENO);
      ::execl("/bin/cat", "cat", nullptr);
      ::_exit(1);
    }
    self.rest();
  });
  EXPECT_EQ(child.told(), "");  // when the other program is at rest, too
  expect_taken(dir.path());
  child.kill();
  EXPECT_TRUE(fs::exists(dir / ".lock"));
  EXPECT_NO_THROW(DirectoryLock{dir.path()});
  EXPECT_FALSE(fs::exists(dir / ".lock"));
}

TEST(DirectoryLock, DoesNotEndWithTheCopyOfAChild) {
  const TempDir dir;
  std::optional<DirectoryLock> lock(dir / "made");
  const auto drop = [&](const Child& self) {
    lock.reset();
    self.tell("dropped");
  };
  EXPECT_EQ(Child(drop).told(), "dropped");
  EXPECT_TRUE(fs::exists(dir / "made/.lock"));
  expect_taken(dir / "made");
  fs::remove(dir / "made/.lock");  // so that the directory could go
  EXPECT_EQ(Child(drop).told(), "dropped");
  EXPECT_TRUE(fs::exists(dir / "made"));
}

// The file that another program has something in stays, and a child that was forked has it open.
TEST(DirectoryLock, EndsThoughAChildGoesOn) {
  const TempDir dir;
  test::write_file(dir / ".lock", "another's");
  std::optional<DirectoryLock> lock(dir.path());
  const Child child([](const Child& self) { self.rest(); });
  EXPECT_EQ(child.told(), "");
  lock.reset();
  EXPECT_NO_THROW(DirectoryLock{dir.path()});
}

TEST(DirectoryLock, RemovesNoFileOfAnothers) {
  const TempDir dir;
  test::write_file(dir / ".lock", "another's");
  EXPECT_NO_THROW(DirectoryLock{dir.path()});
  EXPECT_EQ(test::read_file(dir / ".lock"), "another's");
  fs::create_directory(dir / "pipe");
  ASSERT_EQ(::mkfifo((dir / "pipe/.lock").c_str(), 0666), 0);
  EXPECT_NO_THROW(DirectoryLock{dir / "pipe"});
  EXPECT_TRUE(fs::is_fifo(dir / "pipe/.lock"));
}

TEST(DirectoryLock, FollowsNoLink) {
  const TempDir dir;
  fs::create_directories(dir / "elsewhere");
  fs::create_directories(dir / "astray");
  fs::create_symlink(dir / "elsewhere/new", dir / "astray/.lock");
  expect_error<IoError>([&] { DirectoryLock(dir / "astray"); }, {"astray/.lock]", "cannot be made"});
  EXPECT_FALSE(fs::exists(dir / "elsewhere/new"));
  g_before_lock = [&] {
    fs::rename(dir / ".lock", dir / "moved");
    fs::create_symlink(dir / "moved", dir / ".lock");
  };
  expect_error<IoError>([&] { DirectoryLock{dir.path()}; }, {"/.lock]", "cannot be made"});
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

TEST(DirectoryLock, SaysWhatMayNotBeWritten) {
  const TempDir dir;
  fs::create_directory(dir / "closed");
  ::chmod(dir.path().c_str(), 0755);
  ::chmod((dir / "closed").c_str(), 0555);
  const std::string told = told_without_rights(dir / "closed");
  if (told == kNoOtherUser) GTEST_SKIP() << told;
  EXPECT_THAT(told, HasSubstr("closed/.lock] cannot be made: Permission denied"));
}

TEST(DirectoryLock, TakesAFileThatMayOnlyBeRead) {
  const TempDir dir;
  ::chmod(dir.path().c_str(), 0777);
  const auto leave = [&] {
    test::write_file(dir / ".lock", "");
    ::chmod((dir / ".lock").c_str(), 0444);
  };
  leave();
  {
    const DirectoryLock lock(dir.path());
    const std::string told = told_without_rights(dir.path());
    if (told == kNoOtherUser) GTEST_SKIP() << told;
    EXPECT_THAT(told, HasSubstr("is in use by another run"));
  }
  leave();
  EXPECT_EQ(told_without_rights(dir.path()), "taken");
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(DirectoryLock, IsTakenInSpiteOfASignal) {
  const TempDir dir;
  const std::function<int()> interrupted = [] { return EINTR; };
  g_before_open = &interrupted;
  const DirectoryLock lock(dir.path());
  EXPECT_EQ(g_before_open, nullptr);
  expect_taken(dir.path());
}

// Who made it, and had it before, takes it away.
TEST(DirectoryLock, MakesADirectoryAgainThatHasGoneMeanwhile) {
  const TempDir dir;
  const std::function<int()> removed = [&] { return fs::remove(dir / "made") ? 0 : EIO; };
  g_before_open = &removed;
  const DirectoryLock lock(dir / "made");
  EXPECT_EQ(g_before_open, nullptr);
  expect_taken(dir / "made");
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

TEST(DirectoryLock, SaysThatOthersCameAndWentAllTheTime) {
  const TempDir dir;
  std::function<void()> always = [&] {
    fs::remove(dir / ".lock");
    g_before_lock = always;
  };
  g_before_lock = always;
  expect_error<IoError>([&] { DirectoryLock{dir.path()}; },
                        {dir.path().string() + "] cannot be locked", "gone again in each of 1000 tries"});
  g_before_lock = {};
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
  for (const int error : {ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL}) {
    const FailingLocks failing(error);
    {
      const DirectoryLock first(dir / "made");
      EXPECT_NO_THROW(DirectoryLock{dir / "made"}) << error;
    }
    EXPECT_TRUE(fs::is_empty(dir.path())) << error;
  }
}

// As NFS does, of a file that could only be opened for reading.
TEST(DirectoryLock, SaysThatAFileCannotBeLocked) {
  const TempDir dir;
  const FailingLocks failing(EBADF);
  expect_error<IoError>([&] { DirectoryLock{dir.path()}; },
                        {"/.lock] cannot be locked: it is another user's"});
}

TEST(DirectoryLock, NamesWhatIsInTheWay) {
  const TempDir dir;
  test::write_file(dir / "file", "");
  expect_error<IoError>([&] { DirectoryLock(dir / "file"); }, {"file]", "cannot create the directory"});
  fs::create_directories(dir / "used/.lock");
  expect_error<IoError>([&] { DirectoryLock(dir / "used"); }, {"used/.lock]", "cannot be made"});
}

}  // namespace
}  // namespace gpt
