// A file's bytes in memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace gpt {

class InputFile;

/// The whole of a regular file, either mapped copy-on-write (writing changes private pages, never the file)
/// or read into memory. The mapping is lazy: pages are loaded when first touched. Shared by copying; the last
/// copy releases it.
/// A mapped file must keep its length: when another process shortens it, the system ends this one by SIGBUS as soon as it
/// touches a page that is gone. A file that is replaced by rename, as AtomicFile does it, does no harm.
class MappedFile {
 public:
  enum class Mode { kMap, kRead };

  /// Throws IoError naming the path: missing, not a regular file, not readable; MemoryError when kRead finds
  /// no memory.
  explicit MappedFile(const std::filesystem::path& path, Mode mode = Mode::kMap);
  /// Of a file that is open, whatever its name stands for by now. For the library's own use: an InputFile is not part of the
  /// interface.
  explicit MappedFile(const InputFile& file, Mode mode = Mode::kMap);

  std::span<std::byte> bytes() const noexcept { return {data_.get(), size_}; }
  /// The bytes of a text file as utf8_text() has them. Throws what it throws, naming the path.
  std::string_view text() const;
  /// Lets go of the memory that whole pages of `part` (of bytes()) take; whoever touches them next reads the file again, and
  /// what was written to them is lost. Does nothing to a file that was read.
  void drop_pages(std::span<std::byte> part) const noexcept;
  const std::filesystem::path& path() const noexcept { return path_; }
  /// Keeps the bytes alive, for Tensor::borrow.
  std::shared_ptr<const void> owner() const noexcept { return data_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<std::byte> data_;
  std::size_t size_ = 0;
  bool mapped_ = false;
};

/// UTF-8 without the byte order mark that some programs put before it, and that is no part of a text: it would be taken for the first
/// characters of a line, of a name, or of what a model learns.
constexpr std::string_view without_byte_order_mark(std::string_view text) noexcept {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  return text.starts_with(kMark) ? text.substr(kMark.size()) : text;
}

/// The same. Throws FormatError naming the source for a text that begins as UTF-16 does, with bytes that UTF-8 has nowhere: what
/// would be learned or looked for in it is not what its author reads.
std::string_view utf8_text(std::string_view text, std::string_view source);

/// The content of a regular text file, likewise. Throws IoError as MappedFile does.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace gpt
