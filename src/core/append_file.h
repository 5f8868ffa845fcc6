// A file that grows by whole records.
#pragma once

#include <filesystem>
#include <string_view>

namespace gpt {

/// Throws IoError naming the file when it cannot be opened or made.
class AppendFile {
 public:
  explicit AppendFile(const std::filesystem::path& path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// Puts the record at the end of the file, where others read it at once. Throws IoError naming the file; on a full disk
  /// the file then ends with the record before, as if there had been no call.
  void append(std::string_view record);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace gpt
