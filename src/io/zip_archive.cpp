#include "io/zip_archive.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50, kEnd = 0x06054b50,
                        kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr std::size_t kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20, kDirectoryBytes = 46,
                      kLocalBytes = 30;
constexpr std::size_t kMostComment = 0xffff;
constexpr std::uint64_t kMostDirectory = 100'000'000;  // bytes, as of a safetensors header
constexpr std::uint32_t kElsewhere = 0xffffffff;       // the number stands in the zip64 field

template <class T>
T at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

class Reader {
 public:
  explicit Reader(const InputFile& file) : file_(file), source_(file.path().string()) {}

  std::map<std::string, ZipArchive::Member, std::less<>> read() {
    find_end();
    if (directory_size_ > kMostDirectory || directory_size_ > file_.size() ||
        directory_ > file_.size() - directory_size_)
      fail<FormatError>(source_, "its zip directory of ", directory_size_, " bytes at byte ", directory_,
                        " does not fit into the file");
    if (count_ > directory_size_ / kDirectoryBytes)
      fail<FormatError>(source_, "its zip directory cannot hold ", count_, " members in ", directory_size_,
                        " bytes");
    const std::vector<std::byte> directory = bytes_at(directory_, directory_size_);
    std::span<const std::byte> rest = directory;
    for (std::uint64_t i = 0; i < count_; ++i) read_member(rest);
    return std::move(members_);
  }

 private:
  std::vector<std::byte> bytes_at(std::uint64_t offset, std::uint64_t size) const {
    std::vector<std::byte> bytes(size);
    file_.read(offset, bytes);
    return bytes;
  }

  void find_end() {
    const std::size_t size = std::min(file_.size(), kEndBytes + kMostComment);
    const std::uint64_t begin = file_.size() - size;
    const std::vector<std::byte> tail = bytes_at(begin, size);
    std::size_t place = size < kEndBytes ? 0 : size - kEndBytes + 1;
    do {
      if (place == 0) fail<FormatError>(source_, "is no whole zip archive: it has no directory at its end");
      --place;
    } while (at<std::uint32_t>(tail, place) != kEnd);
    const std::span<const std::byte> end = std::span(tail).subspan(place);
    count_ = at<std::uint16_t>(end, 10);
    directory_size_ = at<std::uint32_t>(end, 12);
    directory_ = at<std::uint32_t>(end, 16);
    if (at<std::uint16_t>(end, 4) != 0 && at<std::uint16_t>(end, 4) != 0xffff)
      fail<UnsupportedError>(source_, "is one of several parts of a zip archive");
    if (place >= kLocatorBytes && at<std::uint32_t>(tail, place - kLocatorBytes) == kEnd64Locator)
      read_end64(at<std::uint64_t>(tail, place - kLocatorBytes + 8));
  }

  void read_end64(std::uint64_t offset) {
    if (file_.size() < kEnd64Bytes || offset > file_.size() - kEnd64Bytes)
      fail<FormatError>(source_, "its zip64 directory's end at byte ", offset, " is outside the file");
    const std::vector<std::byte> end = bytes_at(offset, kEnd64Bytes);
    if (at<std::uint32_t>(end, 0) != kEnd64)
      fail<FormatError>(source_, "has no zip64 directory's end at byte ", offset);
    count_ = at<std::uint64_t>(end, 32);
    directory_size_ = at<std::uint64_t>(end, 40);
    directory_ = at<std::uint64_t>(end, 48);
  }

  void read_member(std::span<const std::byte>& rest) {
    if (rest.size() < kDirectoryBytes || at<std::uint32_t>(rest, 0) != kDirectoryHeader)
      fail<FormatError>(source_, "its zip directory ends early, or is none");
    const std::size_t name_size = at<std::uint16_t>(rest, 28), extra_size = at<std::uint16_t>(rest, 30),
                      comment_size = at<std::uint16_t>(rest, 32);
    if (rest.size() - kDirectoryBytes < name_size + extra_size + comment_size)
      fail<FormatError>(source_, "its zip directory ends early");
    const std::string name(reinterpret_cast<const char*>(rest.data()) + kDirectoryBytes, name_size);
    const auto flags = at<std::uint16_t>(rest, 8), method = at<std::uint16_t>(rest, 10);
    std::uint64_t stored = at<std::uint32_t>(rest, 20), size = at<std::uint32_t>(rest, 24),
                  header = at<std::uint32_t>(rest, 42);
    read_extra(name, rest.subspan(kDirectoryBytes + name_size, extra_size), size, stored, header);
    if ((flags & 1) != 0) fail<UnsupportedError>(source_, "member ", quote(name), " is encrypted");
    if (method != 0 || stored != size)
      fail<UnsupportedError>(source_, "member ", quote(name), " is compressed, which torch.save never does");
    add(name, header, size);
    rest = rest.subspan(kDirectoryBytes + name_size + extra_size + comment_size);
  }

  /// The zip64 field holds those of the numbers that do not fit elsewhere, in this order.
  void read_extra(const std::string& name, std::span<const std::byte> extra, std::uint64_t& size,
                  std::uint64_t& stored, std::uint64_t& header) const {
    while (extra.size() >= 4) {
      const auto id = at<std::uint16_t>(extra, 0);
      const std::size_t field_size = at<std::uint16_t>(extra, 2);
      if (extra.size() - 4 < field_size) break;
      std::span<const std::byte> field = extra.subspan(4, field_size);
      for (std::uint64_t* const number : {&size, &stored, &header}) {
        if (id != 1 || *number != kElsewhere) continue;
        if (field.size() < 8)
          fail<FormatError>(source_, "member ", quote(name), " has a zip64 field cut short");
        *number = at<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
      extra = extra.subspan(4 + field_size);
    }
  }

  void add(const std::string& name, std::uint64_t header, std::uint64_t size) {
    if (file_.size() < kLocalBytes || header > file_.size() - kLocalBytes)
      fail<FormatError>(source_, "member ", quote(name), " begins at byte ", header, ", outside the file");
    const std::vector<std::byte> local = bytes_at(header, kLocalBytes);
    if (at<std::uint32_t>(local, 0) != kLocalHeader || at<std::uint16_t>(local, 26) != name.size())
      fail<FormatError>(source_, "member ", quote(name), " has another header than its directory says");
    const std::uint64_t begin =
        header + kLocalBytes + at<std::uint16_t>(local, 26) + at<std::uint16_t>(local, 28);
    if (begin > file_.size() || size > file_.size() - begin)
      fail<FormatError>(source_, "member ", quote(name), " of ", size, " bytes ends beyond the file's end");
    const std::vector<std::byte> local_name = bytes_at(header + kLocalBytes, name.size());
    if (!std::equal(local_name.begin(), local_name.end(), std::as_bytes(std::span(name)).begin()))
      fail<FormatError>(source_, "member ", quote(name), " has another header than its directory says");
    if (!members_.emplace(name, ZipArchive::Member{begin, size}).second)
      fail<FormatError>(source_, "member ", quote(name), " occurs twice");
  }

  const InputFile& file_;
  const std::string source_;
  std::uint64_t count_ = 0, directory_ = 0, directory_size_ = 0;
  std::map<std::string, ZipArchive::Member, std::less<>> members_;
};

}  // namespace

ZipArchive::ZipArchive(const InputFile& file) : members_(Reader(file).read()) {}

}  // namespace gpt
