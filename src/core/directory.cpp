#include "core/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "gpt/core/error.h"

namespace gpt {

namespace fs = std::filesystem;

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
