// Pages of attention caches within a budget of memory, for many sequences at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "gpt/nn/kv_cache.h"

namespace gpt::nn {

/// Pages of equal size, so many as a budget of memory allows (Kwon et al., "Efficient Memory Management for Large Language
/// Model Serving with PagedAttention", 2023). The caches it makes take pages as their sequences grow and give them back; a
/// page that several hold counts once, and is copied by the first that writes to it. Memory is taken from the system for as
/// many pages at once as 32 MiB hold, or an eighth of the pool, and goes back when none of these is in use any more. Caches and
/// pages may outlive their pool, and be used by several threads, each of which by one at a time.
class KvPool {
 public:
  /// Pages of `page_tokens` tokens, in all at most `budget` bytes. Throws ArgumentError on extents or a type that a KvCache
  /// refuses, a page_tokens that is no positive multiple of 16, and a budget too small for a page.
  KvPool(const KvShape& shape, std::int64_t page_tokens, std::size_t budget, DType dtype = DType::f32);

  /// An empty cache of at most `capacity` tokens behind the virtual ones. Throws as KvCache.
  KvCache make_cache(std::int64_t capacity, std::int64_t virtual_tokens = 0) const;

  const KvShape& shape() const noexcept { return shape_; }
  DType dtype() const noexcept { return dtype_; }
  std::int64_t page_tokens() const noexcept { return layout_.page_tokens; }
  std::size_t page_bytes() const noexcept { return static_cast<std::size_t>(layout_.bytes); }
  /// Pages that a sequence of so many tokens takes.
  std::int64_t pages_for(std::int64_t tokens) const noexcept {
    return (tokens + layout_.page_tokens - 1) / layout_.page_tokens;
  }
  /// Pages that the budget allows, that are in use, and the most that ever were.
  std::int64_t total_pages() const noexcept;
  std::int64_t used_pages() const noexcept;
  std::int64_t peak_pages() const noexcept;
  std::int64_t free_pages() const noexcept { return total_pages() - used_pages(); }

 private:
  KvShape shape_;
  DType dtype_;
  detail::KvLayout layout_;
  std::shared_ptr<detail::KvPoolState> state_;
};

}  // namespace gpt::nn
