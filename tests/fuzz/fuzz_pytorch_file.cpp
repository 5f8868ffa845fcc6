// Any bytes either are a file of torch.save, whose tensors can then all be read, or give a typed error; and so do the same bytes
// as the pickle in such a file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "io/pickle.h"
#include "io/pytorch_file.h"

namespace {

/// A file in memory, with a path.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::write(fd_, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace

GPT_FUZZER(pytorch_file) {
  try {
    static_cast<void>(gpt::read_state_dict({reinterpret_cast<const char*>(data), size}, "fuzz"));
  } catch (const gpt::FormatError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  const MemoryFile bytes(data, size);
  try {
    const gpt::SafetensorsFile file = gpt::open_pytorch_file(bytes.path(), gpt::MappedFile::Mode::kRead);
    for (const std::string& name : file.names()) {
      if (file.info(name).nbytes > size) __builtin_trap();
      try {
        static_cast<void>(file.tensor(name));
      } catch (const gpt::FormatError&) {  // a BOOL of neither 0 nor 1
      }
    }
  } catch (const gpt::FormatError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  return 0;
}
