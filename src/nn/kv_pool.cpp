#include "gpt/nn/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "nn/kv_pool_state.h"

namespace gpt::nn {

namespace detail {

KvPoolState::KvPoolState(std::size_t bytes, std::int64_t pages) noexcept : page_bytes(bytes), total(pages) {}

KvPage KvPoolState::take(const std::shared_ptr<KvPoolState>& state) {
  Region* region = nullptr;
  std::byte* const page = state->cut(region);
  if (page == nullptr) return nullptr;
  // Where there is no memory for the pointer's count, it gives the page back.
  return {page, [state, region](std::byte* data) noexcept { state->give_back(*region, data); }};
}

std::byte* KvPoolState::cut(Region*& from) {
  const std::lock_guard lock(mutex_);
  if (used_ == total) return nullptr;
  if (used_ == held_) {
    // Large enough for pages of 2 MiB and few mappings, and no large part of the pool, of which it is what can go back.
    constexpr std::size_t kRegion = std::size_t{32} << 20;
    const auto most = std::min(static_cast<std::int64_t>(kRegion / page_bytes), total / 8);
    std::list<Region> made(1);
    Region& region = made.front();
    region.pages = std::clamp<std::int64_t>(most, 1, total - held_);
    while (region.memory == nullptr) try {
        region.memory = allocate_bytes(static_cast<std::size_t>(region.pages) * page_bytes, "kv_cache");
      } catch (const MemoryError&) {  // there may be room for less
        if (region.pages == 1) throw;
        region.pages /= 2;
      }
    region.itself = made.begin();
    held_ += region.pages;
    regions_.splice(regions_.begin(), made);
  }
  Region& region = regions_.front();
  std::byte* page = region.free;
  if (page != nullptr) {
    std::memcpy(&region.free, page, sizeof(region.free));
  } else {
    page = region.memory.get() + static_cast<std::size_t>(region.fresh++) * page_bytes;
  }
  if (++region.used == region.pages) regions_.splice(regions_.end(), regions_, region.itself);
  peak_ = std::max(peak_, ++used_);
  from = &region;
  return page;
}

void KvPoolState::give_back(Region& region, std::byte* page) noexcept {
  std::list<Region> idle;  // goes back to the system without the lock
  const std::lock_guard lock(mutex_);
  --used_;
  if (region.used-- == region.pages) regions_.splice(regions_.begin(), regions_, region.itself);
  if (region.used == 0) {
    held_ -= region.pages;
    idle.splice(idle.begin(), regions_, region.itself);
    return;
  }
  std::memcpy(page, &region.free, sizeof(region.free));
  region.free = page;
}

std::int64_t KvPoolState::used() const noexcept {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::int64_t KvPoolState::peak() const noexcept {
  const std::lock_guard lock(mutex_);
  return peak_;
}

std::int64_t KvPoolState::held() const noexcept {
  const std::lock_guard lock(mutex_);
  return held_;
}

}  // namespace detail

KvPool::KvPool(const KvShape& shape, std::int64_t page_tokens, std::size_t budget, DType dtype)
    : dtype_(dtype) {
  with_memory_errors("kv_pool", [&] {
    if (page_tokens <= 0 || page_tokens % ops::kKeyGroup != 0)
      fail<ArgumentError>("kv_pool", "page_tokens is ", page_tokens, ", expected a positive multiple of ",
                          ops::kKeyGroup);
    detail::check_extents(shape, page_tokens, dtype);
    shape_ = shape;
    layout_ = detail::KvLayout(shape, page_tokens, dtype);
    const std::size_t pages = budget / page_bytes();
    if (pages == 0)
      fail<ArgumentError>("kv_pool", "the budget is ", budget, " bytes, expected at least ", page_bytes(),
                          ", the size of a page of ", page_tokens, " tokens");
    state_ = std::make_shared<detail::KvPoolState>(page_bytes(), static_cast<std::int64_t>(pages));
  });
}

KvCache KvPool::make_cache(std::int64_t capacity, std::int64_t virtual_tokens) const {
  detail::check_extents(shape_, capacity, dtype_);
  detail::check_virtual_tokens(virtual_tokens);
  return with_memory_errors(
      "kv_cache", [&] { return KvCache(shape_, capacity, dtype_, virtual_tokens, layout_, state_); });
}

std::int64_t KvPool::total_pages() const noexcept { return state_->total; }
std::int64_t KvPool::used_pages() const noexcept { return state_->used(); }
std::int64_t KvPool::peak_pages() const noexcept { return state_->peak(); }

}  // namespace gpt::nn
