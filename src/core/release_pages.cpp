#include "core/release_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace gpt {
namespace {

/// The bytes of `part` that fill whole pages.
std::span<std::byte> whole_pages(std::span<std::byte> part) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t begin = (address + page - 1) / page * page,
                       end = (address + part.size()) / page * page;
  if (begin >= end) return part.first(0);
  return part.subspan(begin - address, end - begin);
}

}  // namespace

void release_pages(std::span<std::byte> part) noexcept {
  const std::span<std::byte> pages = whole_pages(part);
  if (!pages.empty()) ::madvise(pages.data(), pages.size(), MADV_DONTNEED);  // a failure costs only memory
}

}  // namespace gpt
