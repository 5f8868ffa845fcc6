// What a pool's caches and pages share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

#include "gpt/nn/kv_cache.h"

namespace gpt::nn::detail {

/// Cuts pages from regions of memory, and keeps those that came back for the next one who asks, until a region's pages are
/// all back. May be used by several threads.
class KvPoolState {
 public:
  KvPoolState(std::size_t bytes, std::int64_t pages) noexcept;

  /// A page of uninitialized memory, null when all are in use. Throws MemoryError and std::bad_alloc.
  static KvPage take(const std::shared_ptr<KvPoolState>& state);

  const std::size_t page_bytes;
  const std::int64_t total;

  std::int64_t used() const noexcept;
  std::int64_t peak() const noexcept;
  /// Pages of the regions that there are, in use or not.
  std::int64_t held() const noexcept;

 private:
  struct Region {
    std::shared_ptr<std::byte> memory;
    std::int64_t pages = 0;
    std::int64_t used = 0;
    std::int64_t fresh = 0;     // the first ones have been used at least once
    std::byte* free = nullptr;  // the last that came back; each begins with the address of the one before
    std::list<Region>::iterator itself = {};
  };

  std::byte* cut(Region*& from);
  void give_back(Region& region, std::byte* page) noexcept;

  mutable std::mutex mutex_;   // of what follows
  std::list<Region> regions_;  // those with pages to give come first, of these the one that was full last
  std::int64_t used_ = 0, peak_ = 0, held_ = 0;
};

/// Throws ArgumentError, as KvCache, when nothing of that kind can be held.
void check_extents(const KvShape& shape, std::int64_t capacity, DType dtype);
void check_virtual_tokens(std::int64_t virtual_tokens);

}  // namespace gpt::nn::detail
