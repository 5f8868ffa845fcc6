// Writing a file so that its name always stands for a whole one: the old or the new, also after a crash.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace gpt {

/// A new content for `target`, written to a temporary file beside it and moved into place by commit().
/// Without commit() the target stays as it was and the temporary is removed. A process that is killed leaves
/// the temporary, named ".<target>.tmp-<pid>-<n>".
///
/// A target that exists keeps its permission bits (its owner becomes the writer); a new one gets what the
/// umask allows. Through a symbolic link the file that it points to is replaced, and the link stays. Anyone
/// who has the old file open or mapped keeps seeing the old content.
///
/// Every failure throws IoError naming the target and leaves it untouched: no such directory, a directory or
/// a device in the file's place, no permission, a full disk.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Unbuffered: give it large pieces. After a failure the temporary is gone, and so is this writer.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);

  /// Brings the content to the disk and gives it the target's name; the last call on this object. When it
  /// returns, the new file also survives a loss of power, as far as the file system can promise it.
  void commit();

 private:
  void require_open() const;
  void discard() noexcept;
  [[noreturn]] void fail_with_errno(const char* what);

  std::filesystem::path path_;  // the target, symbolic links resolved
  std::filesystem::path temporary_;
  int fd_ = -1;
};

/// Replaces the content of a file by `text`. Throws IoError as AtomicFile.
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

}  // namespace gpt
