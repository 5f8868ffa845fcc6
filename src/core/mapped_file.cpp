#include "gpt/core/mapped_file.h"

#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "core/input_file.h"
#include "core/memory.h"
#include "core/release_pages.h"
#include "gpt/core/error.h"

namespace gpt {

MappedFile::MappedFile(const std::filesystem::path& path, Mode mode) try : MappedFile(InputFile(path), mode) {
} catch (...) {
  rethrow_with_memory_errors(path.native());
}

MappedFile::MappedFile(const InputFile& file, Mode mode) try : path_(file.path()), size_(file.size()) {
  if (mode == Mode::kRead || size_ == 0) {
    data_ = allocate_bytes(size_, path_.native());
    file.read(0, bytes());
    return;
  }
  void* address =
      ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.descriptor(), 0);
  if (address == MAP_FAILED)
    fail<IoError>(path_.string(), "cannot map: ", std::generic_category().message(errno));
  // The deleter runs when its own memory is missing.
  data_ = {static_cast<std::byte*>(address), [size = size_](std::byte* p) { ::munmap(p, size); }};
  mapped_ = true;
} catch (...) {
  rethrow_with_memory_errors(file.path().native());
}

void MappedFile::drop_pages(std::span<std::byte> part) const noexcept {
  if (mapped_) release_pages(part);
}

std::string_view MappedFile::text() const {
  return utf8_text({reinterpret_cast<const char*>(data_.get()), size_}, path_.native());
}

std::string_view utf8_text(std::string_view text, std::string_view source) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    fail<FormatError>(source, "begins as text in UTF-16 does, expected UTF-8");
  return without_byte_order_mark(text);
}

std::string read_text_file(const std::filesystem::path& path) try {
  const InputFile file(path);
  std::string text;
  try {
    text.resize(file.size());
  } catch (const std::exception&) {
    fail<MemoryError>(path.string(), "cannot allocate ", file.size(), " bytes");
  }
  file.read(0, std::as_writable_bytes(std::span(text)));
  text.erase(0, text.size() - utf8_text(text, path.native()).size());
  return text;
} catch (...) {
  rethrow_with_memory_errors(path.native());
}

}  // namespace gpt
