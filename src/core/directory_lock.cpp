#include "gpt/core/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
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
  ~LockFile() { close(); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// False where the directory has gone meanwhile. Throws IoError naming the file.
  bool open() {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno == EACCES)  // of another user, who was killed: to be locked, it need not be written
      fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
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
    held_ = result == 0;
    return held_ || errno != EWOULDBLOCK;  // anything else: there are no locks here
  }

  /// Whether the path still stands for what is open: who held it before may have removed it meanwhile.
  bool is_in_place() const {
    struct stat open {};
    struct stat there {};
    return ::fstat(fd_, &open) == 0 && ::stat(path_.c_str(), &there) == 0 && open.st_dev == there.st_dev &&
           open.st_ino == there.st_ino;
  }

  void close() noexcept {
    if (fd_ < 0) return;
    if (held_ && is_in_place()) ::unlink(path_.c_str());  // while nobody else can have it
    if (held_) ::flock(fd_, LOCK_UN);  // also for a child that was forked without exec, and has it open
    ::close(fd_);
    fd_ = -1;
    held_ = false;
  }

 private:
  fs::path path_;
  int fd_ = -1;
  bool held_ = false;
};

/// In this order: the file goes before what was made for it.
struct LockedDirectory {
  explicit LockedDirectory(const fs::path& path) : directory(path), file(directory.path() / ".lock") {}

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
    if (!locked->file.is_in_place()) continue;
    held_ = locked;
    return;
  }
  fail<BusyError>(directory.string(),
                  "is in use by another run: wait for its end, or choose another directory");
}

}  // namespace gpt
