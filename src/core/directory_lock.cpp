#include "gpt/core/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "core/directory.h"
#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

/// The call again, as often as a signal comes between.
template <class F>
int unless_interrupted(F call) {
  int result = 0;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

/// The open file of a lock, or none yet.
class LockFile {
 public:
  explicit LockFile(fs::path path) : path_(std::move(path)) {}
  ~LockFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// False where the directory has gone meanwhile. Throws IoError naming the file.
  bool open() {
    // A link leads to what is not this directory's.
    constexpr int kFlags = O_NOFOLLOW | O_CLOEXEC;
    fd_ = unless_interrupted([&] { return ::open(path_.c_str(), kFlags | O_RDWR | O_CREAT, 0666); });
    if (fd_ < 0 && errno == EACCES) {
      // Of another user, who was killed: to be locked, it need not be written.
      fd_ = unless_interrupted([&] { return ::open(path_.c_str(), kFlags | O_RDONLY); });
      if (fd_ < 0 && errno == ENOENT) errno = EACCES;  // there is none, and none may be made
    }
    if (fd_ >= 0) return true;
    if (errno == ENOENT) return false;
    fail<IoError>(path_.string(), "cannot be made: ", std::generic_category().message(errno));
  }

  /// False when another has it. Throws IoError naming the file.
  bool lock() {
    held_ = unless_interrupted([&] { return ::flock(fd_, LOCK_EX | LOCK_NB); }) == 0;
    if (held_ || errno == EWOULDBLOCK) return held_;
    if (errno == EBADF)  // NFS
      fail<IoError>(path_.string(),
                    "cannot be locked: it is another user's, and this file system locks only what may be "
                    "written: have it removed, if no run is at work there");
    held_ = true;  // there are no locks here
    return true;
  }

  /// What is open, if the path still stands for it: who held it before may have removed it meanwhile.
  std::optional<struct stat> in_place() const noexcept {
    struct stat open {};
    struct stat there {};
    if (::fstat(fd_, &open) != 0 || ::lstat(path_.c_str(), &there) != 0 || open.st_dev != there.st_dev ||
        open.st_ino != there.st_ino)
      return std::nullopt;
    return open;
  }

  /// Ends the lock, and removes the file if it can have been made here: another program's of that name has something in it.
  void release() noexcept {
    if (!held_) return;
    const std::optional<struct stat> file = in_place();
    if (file && S_ISREG(file->st_mode) && file->st_size == 0)
      ::unlink(path_.c_str());  // while nobody else can have it
    ::flock(fd_, LOCK_UN);      // also for a child that was forked without exec, and has it open
  }

 private:
  fs::path path_;
  int fd_ = -1;
  bool held_ = false;
};

/// The file goes before what was made for it. A child that was forked has a copy, whose end is not that of its parent's.
struct LockedDirectory {
  explicit LockedDirectory(const fs::path& path) : directory(path), file(directory.path() / ".lock") {}
  ~LockedDirectory() {
    if (::getpid() == process)
      file.release();
    else
      directory.keep();
  }
  LockedDirectory(const LockedDirectory&) = delete;
  LockedDirectory& operator=(const LockedDirectory&) = delete;

  const pid_t process = ::getpid();
  OutputDirectory directory;
  LockFile file;
};

}  // namespace

DirectoryLock::DirectoryLock(const fs::path& directory) {
  with_memory_errors(directory.native(), [&] { take(directory); });
}

void DirectoryLock::take(const fs::path& directory) {
  constexpr int kTries = 1000;  // one is lost to whoever begins or ends between two calls of the system
  for (int i = 0; i < kTries; ++i) {
    const auto locked = std::make_shared<LockedDirectory>(directory);
    if (!locked->file.open()) continue;
    if (!locked->file.lock())
      fail<BusyError>(directory.string(),
                      "is in use by another run: wait for its end, or choose another directory");
    if (!locked->file.in_place()) continue;
    held_ = locked;
    return;
  }
  fail<IoError>(directory.string(), "cannot be locked: the directory or its .lock was gone again in each of ",
                kTries, " tries");
}

}  // namespace gpt
