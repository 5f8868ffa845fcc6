// A mapped file that is read from its beginning to its end, and may be larger than memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <stop_token>

#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"

namespace gpt {

constexpr std::size_t kPieceBytes = std::size_t{1} << 18;  // whole pages, whatever their size

/// Lets go of the memory of what has been read.
class PagesBehind {
 public:
  explicit PagesBehind(const MappedFile& file) noexcept : file_(file) {}

  /// The bytes before `done` have been read. Up to two pieces of them stay.
  void drop_before(std::size_t done) noexcept {
    const std::size_t end = done / kPieceBytes * kPieceBytes;
    if (end <= dropped_) return;
    // Once more the piece before: where a page is touched the system maps those around it, too.
    const std::size_t begin = dropped_ - std::min(dropped_, kPieceBytes);
    file_.drop_pages(file_.bytes().subspan(begin, end - begin));
    dropped_ = end;
  }

 private:
  const MappedFile& file_;
  std::size_t dropped_ = 0;
};

/// f(piece) for the first `size` bytes of a file, in order. Throws CancelledError naming it.
template <class F>
void for_each_piece(const MappedFile& file, std::size_t size, const std::stop_token& stop, const F& f) {
  PagesBehind pages(file);
  for (std::size_t begin = 0; begin < size; begin += kPieceBytes) {
    if (stop.stop_requested()) fail<CancelledError>(file.path().string(), "reading stopped");
    const std::size_t count = std::min(kPieceBytes, size - begin);
    f(std::span<const std::byte>(file.bytes().subspan(begin, count)));
    pages.drop_before(begin + count);
  }
}

}  // namespace gpt
