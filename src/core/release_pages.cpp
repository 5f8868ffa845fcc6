#include "core/release_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace gpt {

void release_pages(std::span<std::byte> part) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t begin = (address + page - 1) / page * page,
                       end = (address + part.size()) / page * page;
  if (begin < end)  // a failure costs only memory
    ::madvise(part.data() + (begin - address), end - begin, MADV_DONTNEED);
}

}  // namespace gpt
