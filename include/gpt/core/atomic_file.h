// Writing a file so that its name always stands for a whole one: the old or the new, also after a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <span>
#include <string_view>
#include <vector>

namespace gpt {

class MappedFile;

/// A new content for `target`, written to a temporary file beside it, named ".<target>.tmp-<pid>-<n>", which is removed with
/// this object; a process that is killed leaves it. What moves it into place is an AtomicFile or AtomicFiles, the latter with a
/// second name for the old file meanwhile, a temporary's with ".old" behind it.
///
/// A target that exists keeps its permission bits, unless Permissions says otherwise (its owner becomes the writer); a new one
/// gets what the umask allows. A symbolic link is replaced by the file, and what it points to stays as it is: the files of a Hugging Face cache are links to
/// blobs that several revisions share. Anyone who has the old file open or mapped keeps seeing the old content.
///
/// Every failure throws IoError naming the target and leaves it untouched (but see commit()): no such directory, a directory
/// or a device in the file's place, no permission, a full disk; MemoryError likewise.
class PendingFile {
 public:
  enum class Permissions : std::uint8_t { kOfTarget, kOfUmask };

  explicit PendingFile(const std::filesystem::path& target, Permissions permissions = Permissions::kOfTarget);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// Appends. Unbuffered: give it large pieces. After a failure the temporary is gone, and so is this writer.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);

  /// The target.
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  friend class AtomicFile;
  friend class AtomicFiles;
  // The three steps into place.
  void sync();
  void rename();
  void replace();
  void sync_directory() const;
  // The way back from replace(): a second name for the old file.
  void keep_old();
  void restore();
  void forget_old();
  void require_open() const;
  void discard() noexcept;
  [[noreturn]] void fail_with_errno(const char* what);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::filesystem::path old_name_;
  enum class Old : std::uint8_t { kNone, kKept, kLost } old_ = Old::kLost;
  int fd_ = -1;
};

/// One file that changes at commit(). Without commit() the target stays as it was.
class AtomicFile : public PendingFile {
 public:
  using PendingFile::PendingFile;

  /// Brings the content to the disk and gives it the target's name; the last call on this object. When it
  /// returns, the new file also survives a loss of power, as far as the file system can promise it; a disk that fails
  /// after the file took its name is an IoError naming the directory.
  void commit();

  /// The same, and the content that was written, even where others have the name by then. When it cannot be mapped, that is
  /// an IoError with the file in place.
  MappedFile commit_and_map();
};

/// Files that change together. Each is written to its temporary, all of them are brought to the disk, and only then are they
/// moved into place: a disk that is full half way leaves every target as it was. Without commit() all targets stay
/// as they were and the temporaries are removed.
///
/// Every failure throws IoError naming the target, or the directory where the disk did not take the new names; or MemoryError.
class AtomicFiles {
 public:
  /// A new content for `target`; stays where it is until this object ends. Add every file before writing a large one: what
  /// cannot be a target is then found first. Throws IoError for one that was added before, by whatever path, too.
  PendingFile& add(const std::filesystem::path& target);

  /// Has commit() remove the file, or the symbolic link, once the others are in place; one that is not there then is no
  /// failure. Throws IoError for a directory.
  void remove(const std::filesystem::path& path);

  /// Moves the files into place, in the order in which they were added, then removes what is to be removed, in order. Where the
  /// system refuses one of the moves, those before it are taken back (given hard links), so that all targets are as they were. A
  /// process that is killed meanwhile leaves some old and some new ones; a removal that is refused leaves those before it done.
  void commit();

 private:
  std::list<PendingFile> files_;  // a deque would need memory to begin with
  std::vector<std::filesystem::path> removed_;
};

/// Replaces the content of a file by `text`. Throws IoError as AtomicFile.
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

/// Removes what killed processes left in a directory that nobody else writes to at the time (see DirectoryLock): temporaries, and
/// second names of old files. What cannot be removed stays, as does all that has another name. Throws MemoryError.
void remove_temporaries(const std::filesystem::path& directory);

}  // namespace gpt
