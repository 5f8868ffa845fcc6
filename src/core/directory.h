// Making directories, reading and removing them, and what is done to them last.
#pragma once

#include <dirent.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
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

/// Calls f(name) for what is in the directory, in the system's order; what f throws leaves. The answer is why the system did not
/// read it, or not all of it. In the place of std::filesystem's iterators: where memory ends in one, libstdc++ ends the process.
template <class F>
std::error_code for_each_name(const std::filesystem::path& directory, const F& f) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), ::closedir);
  if (entries == nullptr) return {errno, std::generic_category()};
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(entries.get());
    if (entry == nullptr) return {errno, std::generic_category()};
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") f(name);
  }
}

/// Removes a file, or a directory with all that is in it; of a symbolic link the link. Goes on where the system refuses one of
/// them, and answers why the first was; nothing to remove is no error. In the place of std::filesystem::remove_all likewise.
std::error_code remove_tree(const std::filesystem::path& path) noexcept;

/// Brings the names in a directory to the disk: a file that was put there, or renamed, lasts only then. Where a directory
/// cannot be opened or synced (no right to read it, some network file systems) that is up to the system; a disk that fails
/// or is full is an IoError naming the directory.
void sync_directory(const std::filesystem::path& directory);

}  // namespace gpt
