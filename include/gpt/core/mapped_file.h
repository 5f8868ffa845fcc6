// A file's bytes in memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace gpt {

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

  std::span<std::byte> bytes() const noexcept { return {data_.get(), size_}; }
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

/// The content of a regular text file. Throws IoError as MappedFile does.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace gpt
