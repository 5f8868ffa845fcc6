#include "gpt/core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/directory.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

std::string errno_text(int error = errno) { return std::generic_category().message(error); }

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

constexpr std::string_view kOld = ".old";  // behind the name of a temporary: what its target was

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  constexpr std::size_t kLongestStem = 200;  // leaves room for the rest in the 255 bytes of a file name
  const std::string stem = path.filename().string().substr(0, kLongestStem);
  return directory_of(path) / concat(".", stem, ".tmp-", ::getpid(), "-", counter++);
}

/// Whether temporary_beside() gives such a name, kOld behind it or not.
bool is_temporary(std::string_view name) {
  if (name.ends_with(kOld)) name.remove_suffix(kOld.size());
  constexpr std::string_view kMark = ".tmp-";
  const std::size_t mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == name.npos || mark == 0) return false;
  const std::string_view numbers = name.substr(mark + kMark.size());
  const std::size_t dash = std::min(numbers.find('-'), numbers.size());
  const auto is_number = [](std::string_view digits) {
    return !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos;
  };
  return is_number(numbers.substr(0, dash)) && is_number(numbers.substr(std::min(dash + 1, numbers.size())));
}

/// Whether both are the same name in the same directory, which may be spelled in two ways.
bool are_same_place(const fs::path& a, const fs::path& b) {
  std::error_code error;  // there is no such directory: no file can be written there either
  return a.filename() == b.filename() && fs::equivalent(directory_of(a), directory_of(b), error);
}

}  // namespace

PendingFile::PendingFile(const fs::path& target, Permissions permissions) try : path_(target) {
  if (!path_.has_filename()) fail<IoError>(path_.string(), "cannot be written: it does not name a file");
  struct stat old {};
  const bool replaces = ::stat(path_.c_str(), &old) == 0;
  if (!replaces && errno != ENOENT) fail_with_errno("cannot be written");
  if (replaces && S_ISDIR(old.st_mode)) fail<IoError>(path_.string(), "is a directory, expected a file");
  if (replaces && !S_ISREG(old.st_mode)) fail<IoError>(path_.string(), "is not a regular file");
  do {  // another process of the same id (in another container) may have left a temporary
    temporary_ = temporary_beside(path_);
    fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && (errno == EEXIST || errno == EINTR));
  if (fd_ < 0) fail_with_errno("cannot be written");
  if (replaces && permissions == Permissions::kOfTarget && ::fchmod(fd_, old.st_mode & 0777) != 0)
    fail_with_errno("cannot keep its permissions");
} catch (...) {
  rethrow_with_memory_errors(target.native());
}

PendingFile::~PendingFile() { discard(); }

void PendingFile::write(std::span<const std::byte> bytes) try {
  require_open();
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
} catch (...) {
  rethrow_with_memory_errors(path_.native());
}

void PendingFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void PendingFile::sync() {
  require_open();
  if (::fsync(fd_) != 0) fail_with_errno("cannot be written");
}

void PendingFile::rename() {
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno("cannot be replaced");
}

void PendingFile::replace() {
  rename();
  ::close(fd_);  // after fsync nothing is left that could fail
  fd_ = -1;
}

void PendingFile::keep_old() {
  old_name_ = temporary_;
  old_name_ += kOld;
  while (::link(path_.c_str(), old_name_.c_str()) != 0) {
    if (errno != EEXIST) {
      old_ = errno == ENOENT ? Old::kNone : Old::kLost;
      return;
    }
    old_name_ = temporary_beside(path_);  // a killed process of the same id left that one
    old_name_ += kOld;
  }
  old_ = Old::kKept;
}

void PendingFile::restore() {
  if (old_ == Old::kKept) ::rename(old_name_.c_str(), path_.c_str());
  if (old_ == Old::kNone) ::unlink(path_.c_str());
  old_ = Old::kLost;
}

void PendingFile::forget_old() {
  if (old_ == Old::kKept) ::unlink(old_name_.c_str());
  old_ = Old::kLost;
}

void PendingFile::sync_directory() const { gpt::sync_directory(directory_of(path_)); }

void PendingFile::require_open() const {
  if (fd_ < 0) fail<IoError>(path_.string(), "nothing can be written after commit() or a failure");
}

void PendingFile::discard() noexcept {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  ::unlink(temporary_.c_str());
}

void PendingFile::fail_with_errno(const char* what) {
  const int error = errno;
  discard();
  fail<IoError>(path_.native(), what, ": ", errno_text(error));
}

void AtomicFile::commit() try {
  sync();
  replace();
  sync_directory();
} catch (...) {
  rethrow_with_memory_errors(path().native());
}

MappedFile AtomicFile::commit_and_map() try {
  sync();
  rename();
  const InputFile written(path_, std::exchange(fd_, -1));
  sync_directory();
  return MappedFile(written);
} catch (...) {
  rethrow_with_memory_errors(path().native());
}

PendingFile& AtomicFiles::add(const fs::path& target) try {
  for (const PendingFile& file : files_)
    if (are_same_place(file.path(), target)) fail<IoError>(target.string(), "cannot be written twice");
  return files_.emplace_back(target);
} catch (...) {
  rethrow_with_memory_errors(target.native());
}

void AtomicFiles::remove(const fs::path& path) try {
  std::error_code error;
  if (fs::symlink_status(path, error).type() == fs::file_type::directory)
    fail<IoError>(path.string(), "is a directory, expected a file to remove");
  removed_.push_back(path);
} catch (...) {
  rethrow_with_memory_errors(path.native());
}

void AtomicFiles::commit() try {
  for (PendingFile& file : files_) file.sync();
  auto next = files_.begin();
  try {
    for (PendingFile& file : files_) file.keep_old();
    for (; next != files_.end(); ++next) next->replace();
  } catch (...) {
    while (next != files_.begin()) (--next)->restore();
    for (PendingFile& file : files_) file.forget_old();
    throw;
  }
  for (PendingFile& file : files_) file.forget_old();
  for (const PendingFile& file : files_) file.sync_directory();
  for (const fs::path& path : removed_)
    if (::unlink(path.c_str()) == 0)
      gpt::sync_directory(directory_of(path));
    else if (errno != ENOENT)
      fail<IoError>(path.string(), "cannot be removed: ", errno_text());
} catch (...) {
  rethrow_with_memory_errors(files_.empty() ? std::string_view()
                                            : std::string_view(files_.front().path().native()));
}

void write_file_atomically(const fs::path& target, std::string_view text) {
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

void remove_temporaries(const fs::path& directory) {
  with_memory_errors(directory.native(), [&] {
    for_each_name(directory, [&](std::string_view name) {
      if (is_temporary(name)) ::unlink((directory / name).c_str());
    });
  });
}

}  // namespace gpt
