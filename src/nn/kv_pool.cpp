#include "gpt/nn/kv_pool.h"

#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "nn/kv_pool_state.h"

namespace gpt::nn {

KvPage detail::KvPoolState::take(const std::shared_ptr<KvPoolState>& state) {
  std::int64_t used = state->used.load(std::memory_order_relaxed);
  do {
    if (used == state->total) return nullptr;
  } while (!state->used.compare_exchange_weak(used, used + 1, std::memory_order_relaxed));
  // From here on it counts as long as this lives.
  const std::shared_ptr<void> counted(
      nullptr, [state](void*) { state->used.fetch_sub(1, std::memory_order_relaxed); });
  std::int64_t peak = state->peak.load(std::memory_order_relaxed);
  while (peak < used + 1 && !state->peak.compare_exchange_weak(peak, used + 1, std::memory_order_relaxed)) {
  }
  auto memory = allocate_bytes(state->page_bytes, "kv_cache");
  std::byte* const data = memory.get();
  return {data, [memory = std::move(memory), counted](std::byte*) noexcept {}};
}

KvPool::KvPool(const KvShape& shape, std::int64_t page_tokens, std::size_t budget, DType dtype)
    : shape_(shape), dtype_(dtype) {
  with_memory_errors("kv_pool", [&] {
    if (page_tokens <= 0 || page_tokens % ops::kKeyGroup != 0)
      fail<ArgumentError>("kv_pool", "page_tokens is ", page_tokens, ", expected a positive multiple of ",
                          ops::kKeyGroup);
    detail::check_extents(shape, page_tokens, dtype);
    layout_ = detail::KvLayout(shape, page_tokens, dtype);
    const std::size_t pages = budget / page_bytes();
    if (pages == 0)
      fail<ArgumentError>("kv_pool", "the budget is ", budget, " bytes, expected at least ", page_bytes(),
                          ", the size of a page of ", page_tokens, " tokens");
    state_ = std::make_shared<detail::KvPoolState>(page_bytes(), static_cast<std::int64_t>(pages));
  });
}

KvCache KvPool::make_cache(std::int64_t capacity) const {
  detail::check_extents(shape_, capacity, dtype_);
  return with_memory_errors("kv_cache", [&] { return KvCache(shape_, capacity, dtype_, layout_, state_); });
}

std::int64_t KvPool::total_pages() const noexcept { return state_->total; }
std::int64_t KvPool::used_pages() const noexcept { return state_->used.load(std::memory_order_relaxed); }
std::int64_t KvPool::peak_pages() const noexcept { return state_->peak.load(std::memory_order_relaxed); }

}  // namespace gpt::nn
