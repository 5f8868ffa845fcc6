// The zip archives that torch.save writes: nothing in them is compressed, so that they can be used where they lie.
// Format: APPNOTE.TXT of PKWARE, sections 4.3 and 4.5.3 (zip64).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/input_file.h"

namespace gpt {

/// Where each member lies. Checksums are not looked at: that would be reading everything.
class ZipArchive {
 public:
  struct Member {
    std::uint64_t begin = 0, size = 0;  // in the file
  };

  /// Reads the directory at the end of the file, and the header before each member. Throws IoError as InputFile; FormatError
  /// naming the file and the member when it ends early, has counts, sizes or places that do not fit into the file, directory and
  /// headers that differ, or a name twice; UnsupportedError for a member that is compressed or encrypted, and archives of
  /// several parts.
  explicit ZipArchive(const InputFile& file);

  const std::map<std::string, Member, std::less<>>& members() const noexcept { return members_; }

 private:
  std::map<std::string, Member, std::less<>> members_;
};

}  // namespace gpt
