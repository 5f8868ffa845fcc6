#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>

#include "gpt/core/error.h"

namespace gpt {
namespace {

// Hands `memory` to a shared_ptr, whose control block may itself find no memory.
std::shared_ptr<std::byte> own(void* memory, std::byte* start, std::size_t size, std::string_view what) {
  if (memory == nullptr) fail<MemoryError>(what, "cannot allocate ", size, " bytes");
  try {
    return {start, [memory](std::byte*) { std::free(memory); }};
  } catch (const std::bad_alloc&) {  // the deleter has run already
    fail<MemoryError>(what, "cannot allocate ", size, " bytes");
  }
}

void require_sane(std::size_t size, std::string_view what) {
  if (size > std::numeric_limits<std::size_t>::max() / 2)
    fail<MemoryError>(what, "cannot allocate ", size, " bytes");
}

// From this size on, what is released goes back to the system at once. malloc may keep it, and for an aligned piece find
// no use (glibc before 2.38): a checkpoint that is read and packed matrix by matrix then takes twice its size.
constexpr std::size_t kPagesOfTheirOwn = std::size_t{1} << 20;

std::shared_ptr<std::byte> map_pages(std::size_t size, std::string_view what) {
  const std::size_t mapped = size + kHugePage;
  void* const start = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) fail<MemoryError>(what, "cannot allocate ", size, " bytes");
  void* aligned = start;
  std::size_t space = mapped;
  std::align(kHugePage, size, aligned, space);
#ifdef MADV_HUGEPAGE
  ::madvise(aligned, size, MADV_HUGEPAGE);  // a wish: ordinary pages do as well
#endif
  const auto release = [start, mapped](std::byte*) { ::munmap(start, mapped); };
  try {
    return {static_cast<std::byte*>(aligned), release};
  } catch (const std::bad_alloc&) {  // the deleter has run already
    fail<MemoryError>(what, "cannot allocate ", size, " bytes");
  }
}

}  // namespace

std::shared_ptr<std::byte> allocate_bytes(std::size_t size, std::string_view what) {
  require_sane(size, what);
  if (size >= kPagesOfTheirOwn) return map_pages(size, what);
  const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, rounded == 0 ? kAlignment : rounded);
  return own(memory, static_cast<std::byte*>(memory), size, what);
}

std::shared_ptr<std::byte> allocate_zeroed(std::size_t size, std::string_view what) {
  require_sane(size, what);
  if (size >= kPagesOfTheirOwn) return map_pages(size, what);  // which the system has zeroed
  void* memory = std::calloc(size + kAlignment, 1);            // calloc leaves fresh pages untouched
  void* aligned = memory;
  std::size_t space = size + kAlignment;
  if (memory != nullptr) std::align(kAlignment, size, aligned, space);
  return own(memory, static_cast<std::byte*>(aligned), size, what);
}

std::shared_ptr<std::byte> PagePool::take(std::size_t size, std::string_view what) {
  constexpr std::size_t kRegion = std::size_t{32}
                                  << 20;  // what is never used of it takes addresses, but no memory
  require_sane(size, what);
  const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  if (region_ == nullptr || rounded > size_ - used_) {
    const std::size_t region = std::max(kRegion, rounded);
    region_ = allocate_bytes(region, what);
    size_ = region;
    used_ = 0;
  }
  std::byte* const part = region_.get() + used_;
  used_ += rounded;
  return {region_, part};
}

}  // namespace gpt
