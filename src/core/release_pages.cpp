#include "core/release_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/memory.h"

namespace gpt {
namespace {

/// The bytes of `part` that fill whole pages.
std::span<std::byte> whole_pages(std::span<std::byte> part, std::uintptr_t page) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t begin = (address + page - 1) / page * page,
                       end = (address + part.size()) / page * page;
  if (begin >= end) return part.first(0);
  return part.subspan(begin - address, end - begin);
}

std::uintptr_t page_size() noexcept { return static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE)); }

void release(std::span<std::byte> pages) noexcept {
  if (!pages.empty()) ::madvise(pages.data(), pages.size(), MADV_DONTNEED);  // a failure costs only memory
}

}  // namespace

void release_pages(std::span<std::byte> part) noexcept { release(whole_pages(part, page_size())); }

void release_huge_pages(std::span<std::byte> part) noexcept { release(whole_pages(part, kHugePage)); }

void zero_pages(std::span<std::byte> part) noexcept {
#ifdef __linux__  // elsewhere what was there may come back
  const std::span<std::byte> pages = whole_pages(part, page_size());
  if (!pages.empty() && ::madvise(pages.data(), pages.size(), MADV_DONTNEED) == 0) {
    std::memset(part.data(), 0, static_cast<std::size_t>(pages.data() - part.data()));
    std::byte* const end = pages.data() + pages.size();
    std::memset(end, 0, static_cast<std::size_t>(part.data() + part.size() - end));
    return;
  }
#endif
  if (!part.empty()) std::memset(part.data(), 0, part.size());
}

}  // namespace gpt
