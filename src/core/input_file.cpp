#include "core/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "gpt/core/error.h"

namespace gpt {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path, const char* what) {
  fail<IoError>(path.string(), what, ": ", std::generic_category().message(errno));
}

int open_file(const std::filesystem::path& path) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO in its place must not block us
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_with_errno(path, "cannot open");
  return fd;
}

std::size_t size_of_regular(int fd, const std::filesystem::path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail_with_errno(path, "cannot stat");
  if (S_ISDIR(info.st_mode)) fail<IoError>(path.string(), "is a directory, expected a file");
  if (!S_ISREG(info.st_mode)) fail<IoError>(path.string(), "is not a regular file");
  return static_cast<std::size_t>(info.st_size);
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path) : InputFile(path, open_file(path)) {}

InputFile::InputFile(const std::filesystem::path& path, int descriptor) try : path_(path), fd_(descriptor) {
  size_ = size_of_regular(fd_, path);
} catch (...) {
  ::close(descriptor);
  throw;
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno(path_, "cannot read");
    if (got == 0) fail<IoError>(path_.string(), "ended ", to.size(), " bytes early while being read");
    to = to.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

}  // namespace gpt
