// One writer of a directory at a time.
#pragma once

#include <filesystem>
#include <memory>

namespace gpt {

/// Takes a directory for whoever holds this object or a copy of it: a second one, in this process or another, is refused.
///
/// The lock is the system's, on the file ".lock" in the directory, and ends with the process, however that ends: a file that a
/// killed one leaves keeps nobody out. Only a child that was forked and goes on without exec has the lock, too: it keeps it when
/// its parent is killed, and ends nothing while its parent lives. Else the file goes with the last copy, and so do directories that
/// were made for it, if nothing was put there; a file that has something in it is another program's, and stays. Where the file
/// system knows no locks there is none, and nobody is refused.
class DirectoryLock {
 public:
  /// Makes the directory where it is missing. Throws BusyError naming it when another object has it; IoError naming the
  /// directory, or the file, when it cannot be made or locked.
  explicit DirectoryLock(const std::filesystem::path& directory);

 private:
  void take(const std::filesystem::path& directory);

  std::shared_ptr<const void> held_;
};

}  // namespace gpt
