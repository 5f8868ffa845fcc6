// What a pool's caches and pages share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "gpt/nn/kv_cache.h"

namespace gpt::nn::detail {

/// Counts the pages in use; everything else about a page belongs to who holds it.
struct KvPoolState {
  KvPoolState(std::size_t bytes, std::int64_t pages) noexcept : page_bytes(bytes), total(pages) {}

  /// A page of uninitialized memory, null when all are in use. Throws MemoryError.
  static KvPage take(const std::shared_ptr<KvPoolState>& state);

  const std::size_t page_bytes;
  const std::int64_t total;
  std::atomic<std::int64_t> used{0}, peak{0};
};

/// Throws ArgumentError, as KvCache, when nothing of that kind can be held.
void check_extents(const KvShape& shape, std::int64_t capacity, DType dtype);

}  // namespace gpt::nn::detail
