#include "core/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "gpt/core/error.h"

namespace gpt {

namespace fs = std::filesystem;

namespace {

// By names in open directories, so that no path is made. The answer is an errno.
int remove_in(int directory, const char* name) noexcept {
  if (::unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
  const int refused = errno;
  const int fd = ::openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno == ENOTDIR ? refused : errno;
  DIR* const entries = ::fdopendir(fd);
  if (entries == nullptr) {
    const int error = errno;
    ::close(fd);
    return error;
  }
  int first = 0;
  for (errno = 0; const dirent* const entry = ::readdir(entries); errno = 0) {
    const std::string_view inner = entry->d_name;
    if (inner == "." || inner == "..") continue;
    if (const int error = remove_in(fd, entry->d_name); first == 0) first = error;
  }
  if (first == 0) first = errno;
  ::closedir(entries);
  if (::unlinkat(directory, name, AT_REMOVEDIR) != 0 && errno != ENOENT && first == 0) first = errno;
  return first;
}

}  // namespace

void make_directory(const fs::path& directory) {
  std::error_code error, ignored;
  fs::create_directories(directory, error);
  if (error || !fs::is_directory(directory, ignored))
    fail<IoError>(directory.string(), "cannot create the directory: ",
                  error ? error.message() : std::string("a file is in its place"));
}

OutputDirectory::OutputDirectory(const fs::path& directory) {
  std::error_code error;
  path_ = fs::absolute(directory, error);
  if (error) fail<IoError>(directory.string(), "cannot create the directory: ", error.message());
  for (fs::path path = path_; path.has_relative_path() && !fs::exists(path, error); path = path.parent_path())
    made_.push_back(path);
  try {
    make_directory(directory);
  } catch (...) {
    remove_made();
    throw;
  }
}

void OutputDirectory::remove_made() const noexcept {
  for (const fs::path& path : made_) ::rmdir(path.c_str());  // refuses what others have put files into
}

std::error_code remove_tree(const fs::path& path) noexcept {
  return {remove_in(AT_FDCWD, path.c_str()), std::generic_category()};
}

void sync_directory(const fs::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error == EIO || error == ENOSPC || error == EDQUOT)
    fail<IoError>(directory.string(), "what was put there could not be brought to the disk: ",
                  std::generic_category().message(error));
}

}  // namespace gpt
