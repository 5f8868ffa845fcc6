// Raw aligned memory for tensors and arenas.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <string_view>

#include "gpt/core/error.h"

namespace gpt {

inline constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Uninitialized bytes aligned to kAlignment; from 1 MiB on in pages of their own, of 2 MiB where the system gives them,
/// which go back to the system when they are released. Throws MemoryError naming `what`.
std::shared_ptr<std::byte> allocate_bytes(std::size_t size, std::string_view what);

/// The same, zeroed; pages that are never touched take no memory.
std::shared_ptr<std::byte> allocate_zeroed(std::size_t size, std::string_view what);

/// Parts of large regions of 2 MiB pages, for many matrices that are read one after another. A part keeps its region alive.
class PagePool {
 public:
  /// Uninitialized bytes aligned to kAlignment. Throws MemoryError naming `what`.
  std::shared_ptr<std::byte> take(std::size_t size, std::string_view what);

 private:
  std::shared_ptr<std::byte> region_;
  std::size_t size_ = 0, used_ = 0;
};

/// n, where a container C can have as many elements. Throws MemoryError naming `what`; C itself would throw std::length_error.
template <class C>
std::size_t container_size(std::size_t n, std::string_view what) {
  if (n > C().max_size()) fail<MemoryError>(what, "there is no memory for ", n, " elements");
  return n;
}

/// In the handler of a function that callers see: throws what it handles again. Where a standard container inside found no
/// memory, that is a MemoryError naming `what`, as everywhere in the library. A std::length_error is not: it may be that of a
/// function of the caller's, and what callers choose as a size is looked at before (container_size).
[[noreturn]] inline void rethrow_with_memory_errors(std::string_view what) {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    fail<MemoryError>(what, "out of memory");
  }
}

/// f(), for such functions.
template <class F>
decltype(auto) with_memory_errors(std::string_view what, F&& f) {
  try {
    return f();
  } catch (...) {
    rethrow_with_memory_errors(what);
  }
}

}  // namespace gpt
