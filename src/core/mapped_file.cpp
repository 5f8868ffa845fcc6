#include "gpt/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path, const char* what) {
  fail<IoError>(path.string(), what, ": ", std::generic_category().message(errno));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// Opens a regular file for reading and gives its size. O_NONBLOCK keeps a FIFO in the file's place from
// blocking us.
std::size_t open_regular(const FileDescriptor& file, const std::filesystem::path& path) {
  if (file.get() < 0) fail_with_errno(path, "cannot open");
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail_with_errno(path, "cannot stat");
  if (S_ISDIR(info.st_mode)) fail<IoError>(path.string(), "is a directory, expected a file");
  if (!S_ISREG(info.st_mode)) fail<IoError>(path.string(), "is not a regular file");
  return static_cast<std::size_t>(info.st_size);
}

void read_exactly(const FileDescriptor& file, char* to, std::size_t size, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t got = ::read(file.get(), to, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno(path, "cannot read");
    if (got == 0) fail<IoError>(path.string(), "ended ", size, " bytes early while being read");
    to += got;
    size -= static_cast<std::size_t>(got);
  }
}

int open_for_reading(const std::filesystem::path& path) {
  return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, Mode mode) : path_(path) {
  const FileDescriptor file(open_for_reading(path));
  size_ = open_regular(file, path);
  if (mode == Mode::kRead || size_ == 0) {
    data_ = allocate_bytes(size_, path.string());
    read_exactly(file, reinterpret_cast<char*>(data_.get()), size_, path);
    return;
  }
  void* address = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.get(), 0);
  if (address == MAP_FAILED) fail_with_errno(path, "cannot map");
  with_memory_errors(path.string(), [&] {  // the deleter runs when its own memory is missing
    data_ = {static_cast<std::byte*>(address), [size = size_](std::byte* p) { ::munmap(p, size); }};
  });
  mapped_ = true;
}

void MappedFile::drop_pages(std::span<std::byte> part) const noexcept {
  if (!mapped_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - data_.get());
  const std::size_t begin = (offset + page - 1) / page * page, end = (offset + part.size()) / page * page;
  if (begin < end) ::madvise(data_.get() + begin, end - begin, MADV_DONTNEED);  // a failure costs only memory
}

std::string read_text_file(const std::filesystem::path& path) {
  const FileDescriptor file(open_for_reading(path));
  const std::size_t size = open_regular(file, path);
  std::string text;
  try {
    text.resize(size);
  } catch (const std::exception&) {
    fail<MemoryError>(path.string(), "cannot allocate ", size, " bytes");
  }
  read_exactly(file, text.data(), text.size(), path);
  return text;
}

}  // namespace gpt
