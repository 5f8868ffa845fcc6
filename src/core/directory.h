// Making directories, and what is done to them last.
#pragma once

#include <filesystem>
#include <vector>

namespace gpt {

/// Makes the directory and those it is in, as far as they are missing. Throws IoError naming it.
void make_directory(const std::filesystem::path& directory);

/// A directory to write into. What had to be made for it, parents too, goes again with this object unless it is kept.
class OutputDirectory {
 public:
  /// Throws as make_directory.
  explicit OutputDirectory(const std::filesystem::path& directory);
  ~OutputDirectory() { remove_made(); }
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  /// Absolute: what is removed does not depend on the working directory of that time.
  const std::filesystem::path& path() const noexcept { return path_; }

  void keep() noexcept { made_.clear(); }

 private:
  void remove_made() const noexcept;

  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  // the innermost first
};

/// Brings the names in a directory to the disk: a file that was put there, or renamed, lasts only then. Where a directory
/// cannot be opened or synced (no right to read it, some network file systems) that is up to the system; a disk that fails
/// or is full is an IoError naming the directory.
void sync_directory(const std::filesystem::path& directory);

}  // namespace gpt
