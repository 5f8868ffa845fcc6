#include "core/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "gpt/core/error.h"

namespace gpt {
namespace {

[[noreturn]] void fail_to_write(const std::filesystem::path& path, int error) {
  fail<IoError>(path.string(), "cannot be written: ", std::generic_category().message(error));
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_to_write(path_, errno);
}

AppendFile::~AppendFile() { ::close(fd_); }

void AppendFile::append(std::string_view record) {
  struct stat before {};
  if (::fstat(fd_, &before) != 0) fail_to_write(path_, errno);
  while (!record.empty()) {
    const ssize_t written = ::write(fd_, record.data(), record.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      [[maybe_unused]] const int ignored =
          ::ftruncate(fd_, before.st_size);  // the write's failure is the news
      fail_to_write(path_, error);
    }
    record.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace gpt
