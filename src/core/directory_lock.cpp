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
    constexpr int kFlags = O_NOFOLLOW | O_CLOEXEC;  // a link leads to what is not this directory's
    fd_ = ::open(path_.c_str(), kFlags | O_RDWR | O_CREAT, 0666);
    if (fd_ < 0 && errno == EACCES)  // of another user, who was killed: to be locked, it need not be written
      fd_ = ::open(path_.c_str(), kFlags | O_RDONLY);
    if (fd_ >= 0) return true;
    const int reason = errno;
    std::error_code ignored;
    if (reason == ENOENT && !fs::exists(path_.parent_path(), ignored)) return false;
    fail<IoError>(path_.string(), "cannot be made: ", std::generic_category().message(reason));
  }

  /// False when another has it.
  bool lock() {
    int result = 0;
    do {
      result = ::flock(fd_, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    held_ = result == 0 || errno != EWOULDBLOCK;  // anything else: there are no locks here
    return held_;
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
  constexpr int kTries =
      1000;  // each is one that began or ended in the moment between two calls of the system
  for (int i = 0; i < kTries; ++i) {
    const auto locked = std::make_shared<LockedDirectory>(directory);
    if (!locked->file.open()) continue;  // whoever made the directory has removed it again
    if (!locked->file.lock()) break;
    if (!locked->file.in_place()) continue;
    held_ = locked;
    return;
  }
  fail<BusyError>(directory.string(),
                  "is in use by another run: wait for its end, or choose another directory");
}

}  // namespace gpt
