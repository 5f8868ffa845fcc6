#include "gpt/nn/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "nn/kv_pool_state.h"

namespace gpt::nn {
namespace {

/// Of `blocks` equal blocks of `extent` rows each, copies the rows [begin, end).
void copy_rows(const std::byte* from, std::byte* to, std::int64_t row_bytes, std::int64_t blocks,
               std::int64_t extent, std::int64_t begin, std::int64_t end) {
  for (std::int64_t block = 0; begin < end && block < blocks; ++block) {
    const std::int64_t offset = (block * extent + begin) * row_bytes;
    std::memcpy(to + offset, from + offset, static_cast<std::size_t>((end - begin) * row_bytes));
  }
}

/// Whether only its holder has the page.
bool is_own(const KvPage& page) noexcept {
  if (page.use_count() != 1) return false;
  // The count alone does not say that others' reads are over, in the order of memory; to take part in counting does.
  const KvPage counted(page);
  return true;
}

}  // namespace

std::int64_t KvShape::heads_before(std::int64_t layer) const noexcept {
  if (layer_heads.empty()) return layer * n_head;
  return std::accumulate(layer_heads.begin(), layer_heads.begin() + layer, std::int64_t{0});
}

detail::KvLayout::KvLayout(const KvShape& shape, std::int64_t tokens, DType dtype) : page_tokens(tokens) {
  std::int64_t room = std::int64_t{1} << 54;  // so that bytes, of padded elements and scales, can be counted
  for (const std::int64_t extent : {shape.n_layer, shape.n_head, shape.head_dim, tokens}) room /= extent;
  if (room == 0)
    fail<MemoryError>("kv_cache", "cannot hold n_layer ", shape.n_layer, ", n_head ", shape.n_head,
                      ", head_dim ", shape.head_dim, ", ", tokens, " tokens");
  const std::int64_t padded = ops::padded_head_dim(shape.head_dim);
  row = padded * static_cast<std::int64_t>(size_of(dtype));
  part = tokens * row;
  scales = dtype == DType::i8 ? tokens * static_cast<std::int64_t>(sizeof(float)) : 0;
  bytes = 2 * shape.heads_before(shape.n_layer) * (part + scales);
}

void detail::check_extents(const KvShape& shape, std::int64_t capacity, DType dtype) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
  if (capacity > kMostTokens) fail<MemoryError>("kv_cache", "cannot hold ", capacity, " tokens");
  if (shape.n_layer <= 0 || shape.n_head <= 0 || shape.head_dim <= 0 || capacity <= 0)
    fail<ArgumentError>("kv_cache", "n_layer ", shape.n_layer, ", n_head ", shape.n_head, ", head_dim ",
                        shape.head_dim, ", capacity ", capacity, ": expected positive numbers");
  if (!shape.layer_heads.empty() && std::ssize(shape.layer_heads) != shape.n_layer)
    fail<ArgumentError>("kv_cache", "layer_heads has ", shape.layer_heads.size(),
                        " numbers, expected one for each of ", shape.n_layer, " layers");
  for (const std::int64_t heads : shape.layer_heads)
    if (heads <= 0 || heads > shape.n_head)
      fail<ArgumentError>("kv_cache", "layer_heads has ", heads, ", expected 1 to n_head = ", shape.n_head);
  if (!ops::is_cache_dtype(dtype))
    fail<ArgumentError>("kv_cache", "the type is ", name_of(dtype),
                        ", expected float32, float16, bfloat16 or int8");
}

void detail::check_virtual_tokens(std::int64_t virtual_tokens) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (virtual_tokens < 0 || virtual_tokens > kMost)
    fail<ArgumentError>("kv_cache", virtual_tokens, " virtual tokens, expected 0 to ", kMost);
}

KvCache::KvCache(const KvShape& shape, std::int64_t capacity, DType dtype, std::int64_t virtual_tokens)
    : dtype_(dtype), capacity_(capacity), virtual_tokens_(virtual_tokens) {
  detail::check_extents(shape, capacity, dtype);
  detail::check_virtual_tokens(virtual_tokens);
  layout_ = detail::KvLayout(shape, ops::whole_groups(virtual_tokens + capacity), dtype);
  with_memory_errors("kv_cache", [&] {
    shape_ = shape;
    pages_.push_back(allocate_bytes(static_cast<std::size_t>(layout_.bytes), "kv_cache"));
    data_.push_back(pages_.back().get());
  });
}

KvCache::KvCache(const KvShape& shape, std::int64_t capacity, DType dtype, std::int64_t virtual_tokens,
                 const detail::KvLayout& layout, std::shared_ptr<detail::KvPoolState> pool)
    : shape_(shape),
      dtype_(dtype),
      capacity_(capacity),
      virtual_tokens_(virtual_tokens),
      layout_(layout),
      pool_(std::move(pool)) {
  // So that tokens that arrive allocate pages alone.
  const std::size_t most = pages_for(capacity);
  pages_.reserve(most);
  data_.reserve(most);
}

ops::KvLayer KvCache::layer(std::int64_t index) const noexcept {
  ops::KvLayer layer;
  layer.dtype = dtype_;
  layer.page_tokens = layout_.page_tokens;
  layer.page_count = static_cast<std::int64_t>(data_.size());
  layer.pages = data_.data();
  const std::int64_t all = shape_.heads_before(shape_.n_layer), before = shape_.heads_before(index);
  layer.keys = before * layout_.part;
  layer.values = (all + before) * layout_.part;
  layer.key_scales = 2 * all * layout_.part + 2 * before * layout_.scales;
  layer.value_scales = layer.key_scales + shape_.heads(index) * layout_.scales;
  return layer;
}

bool KvCache::try_reserve(std::int64_t length) {
  if (length < length_ || length > capacity_)
    fail<ArgumentError>("kv_cache", "cannot make room for ", length, " tokens where ", length_, " of ",
                        capacity_, " are held");
  if (pool_ == nullptr || length == length_) return true;
  return with_memory_errors("kv_cache", [&] {
    const auto first = static_cast<std::size_t>(positions() / layout_.page_tokens);
    const std::size_t end = pages_for(length);
    for (std::size_t i = first; i < end; ++i) {
      const bool is_there = i < pages_.size();
      if (is_there && is_own(pages_[i])) continue;
      KvPage page = detail::KvPoolState::take(pool_);
      if (page == nullptr) return false;
      if (!is_there) {
        data_.push_back(page.get());
        pages_.push_back(std::move(page));
        continue;
      }
      if (i == first && positions() % layout_.page_tokens != 0)
        std::memcpy(page.get(), data_[i], static_cast<std::size_t>(layout_.bytes));
      data_[i] = page.get();
      pages_[i] = std::move(page);
    }
    return true;
  });
}

void KvCache::reserve(std::int64_t length) {
  if (!try_reserve(length))
    fail<MemoryError>("kv_cache", "the pool's ", pool_->total, " pages are in use, and ", length,
                      " tokens need more than the ", pages_.size(), " they have");
}

KvCache KvCache::clone() const {
  if (capacity_ == 0) return {};
  return with_memory_errors("kv_cache", [&] {
    if (pool_ == nullptr) {
      KvCache copy(shape_, capacity_, dtype_, virtual_tokens_);
      copy.copy_from(*this, 0);
      return copy;
    }
    KvCache copy(shape_, capacity_, dtype_, virtual_tokens_, layout_, pool_);
    copy.copy_from(*this, 0);
    return copy;
  });
}

void KvCache::copy_from(const KvCache& from, std::int64_t same) {
  if (shape_ != from.shape_ || capacity_ != from.capacity_ || dtype_ != from.dtype_ ||
      virtual_tokens_ != from.virtual_tokens_ || pool_ != from.pool_)
    fail<ArgumentError>("kv_cache",
                        "cannot take the tokens of a cache of another shape, capacity or type, with other "
                        "virtual tokens, or of another pool");
  if (same < 0 || same > length_ || same > from.length_)
    fail<ArgumentError>("kv_cache", "caches of ", length_, " and ", from.length_, " tokens cannot have ",
                        same, " in common");
  if (&from == this) return;
  if (pool_ != nullptr) {
    const std::size_t count = pages_for(from.length_);
    // Into what is reserved already, so that nothing throws.
    pages_.assign(from.pages_.begin(), from.pages_.begin() + static_cast<std::ptrdiff_t>(count));
    data_.assign(from.data_.begin(), from.data_.begin() + static_cast<std::ptrdiff_t>(count));
  } else if (!pages_.empty()) {
    // A group of keys that is shared in part is copied whole: its first tokens are the same.
    const std::int64_t begin = positions_of(same), end = from.positions();
    const std::int64_t group = begin / ops::kKeyGroup, groups = ops::whole_groups(end) / ops::kKeyGroup;
    const std::int64_t heads = shape_.heads_before(shape_.n_layer), tokens = layout_.page_tokens;
    const std::byte* const source = from.data_[0];
    std::byte* const target = data_[0];
    const std::int64_t values = heads * layout_.part, scales = 2 * values;
    copy_rows(source, target, layout_.row * ops::kKeyGroup, heads, tokens / ops::kKeyGroup, group, groups);
    copy_rows(source + values, target + values, layout_.row, heads, tokens, begin, end);
    if (layout_.scales != 0)
      copy_rows(source + scales, target + scales, sizeof(float), 2 * heads, tokens, begin, end);
  }
  length_ = from.length_;
}

void KvCache::share(std::span<const KvPage> pages, std::int64_t length) {
  if (pool_ == nullptr || !pages_.empty())
    fail<ArgumentError>("kv_cache", "a cache that ", pool_ == nullptr ? "has no pool" : "holds pages",
                        " cannot share others, expected an empty one of a pool");
  if (length < 0 || length > capacity_ || pages.size() != pages_for(length))
    fail<ArgumentError>("kv_cache", pages.size(), " pages of ", layout_.page_tokens, " tokens for ", length,
                        " tokens in a cache of ", capacity_, ", expected as many as these take");
  for (const KvPage& page : pages) {  // into what is reserved already
    pages_.push_back(page);
    data_.push_back(page.get());
  }
  length_ = length;
}

void KvCache::replace(std::size_t index, KvPage page) {
  if (pool_ == nullptr || index >= pages_.size() || page == nullptr)
    fail<ArgumentError>("kv_cache", "cannot replace page ", index, " of ", pages_.size(),
                        ", expected one of a pool's cache");
  data_[index] = page.get();
  pages_[index] = std::move(page);
}

void KvCache::swap(KvCache& other) noexcept {
  std::swap(shape_, other.shape_);
  std::swap(dtype_, other.dtype_);
  std::swap(capacity_, other.capacity_);
  std::swap(virtual_tokens_, other.virtual_tokens_);
  std::swap(length_, other.length_);
  std::swap(layout_, other.layout_);
  std::swap(pool_, other.pool_);
  std::swap(pages_, other.pages_);
  std::swap(data_, other.data_);
}

void KvCache::drop_pages(std::size_t count) noexcept {
  if (pool_ == nullptr) return;
  while (pages_.size() > count) {
    pages_.pop_back();
    data_.pop_back();
  }
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > length_)
    fail<ArgumentError>("kv_cache", "cannot truncate ", length_, " tokens to ", length);
  length_ = length;
  if (pool_ != nullptr) drop_pages(pages_for(length));
}

void KvCache::advance(std::int64_t count) {
  if (count < 0 || count > capacity_ - length_)
    fail<ArgumentError>("kv_cache", count, " more tokens do not fit behind ", length_, " of ", capacity_);
  length_ += count;
}

}  // namespace gpt::nn
