// A regular file that is read piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace gpt {

/// Throws IoError naming the path: missing, not a regular file, not readable.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  /// Of a file that is open under that name, or was; closes it.
  InputFile(const std::filesystem::path& path, int descriptor);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::size_t size() const noexcept { return size_; }
  int descriptor() const noexcept { return fd_; }

  /// Fills `to` with what begins at byte `offset`. Throws IoError, also when the file has become shorter. Thread-safe.
  void read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::size_t size_ = 0;
};

}  // namespace gpt
