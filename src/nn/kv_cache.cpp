#include "gpt/nn/kv_cache.h"

#include <cstring>
#include <limits>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt::nn {
namespace {

/// Uninitialized, in pages of 2 MiB where it is large and the system gives them: a decode step reads all of it once.
Tensor allocate(const Shape& shape, DType dtype) {
  const auto n = static_cast<std::size_t>(shape.numel());
  if (n > std::numeric_limits<std::size_t>::max() / 4 / size_of(dtype))
    fail<MemoryError>("kv_cache", "shape ", shape.to_string(), " does not fit into memory");
  auto memory = allocate_bytes(n * size_of(dtype), "kv_cache");
  std::byte* const data = memory.get();
  return Tensor::borrow(std::move(memory), data, shape, dtype);
}

Tensor copy_of(const Tensor& from) {
  Tensor copy = allocate(from.shape(), from.dtype());
  if (!from.empty()) std::memcpy(copy.view().raw(), from.view().raw(), from.nbytes());
  return copy;
}

/// Of `blocks` equal blocks of `extent` rows each, copies the rows [begin, end).
void copy_rows(const Tensor& from, Tensor& to, std::int64_t blocks, std::int64_t extent, std::int64_t begin,
               std::int64_t end) {
  const std::size_t row = from.nbytes() / static_cast<std::size_t>(blocks * extent);
  for (std::int64_t block = 0; begin < end && block < blocks; ++block) {
    const std::size_t offset = static_cast<std::size_t>(block * extent + begin) * row;
    std::memcpy(to.view().raw() + offset, from.view().raw() + offset,
                static_cast<std::size_t>(end - begin) * row);
  }
}

}  // namespace

KvCache::KvCache(const KvShape& shape, std::int64_t capacity, DType dtype)
    : shape_(shape), capacity_(capacity) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
  if (capacity > kMostTokens) fail<MemoryError>("kv_cache", "cannot hold ", capacity, " tokens");
  if (shape.n_layer <= 0 || shape.n_head <= 0 || shape.head_dim <= 0 || capacity <= 0)
    fail<ArgumentError>("kv_cache", "n_layer ", shape.n_layer, ", n_head ", shape.n_head, ", head_dim ",
                        shape.head_dim, ", capacity ", capacity, ": expected positive numbers");
  if (!ops::is_cache_dtype(dtype))
    fail<ArgumentError>("kv_cache", "the type is ", name_of(dtype),
                        ", expected float32, float16, bfloat16 or int8");
  const std::int64_t tokens = ops::whole_groups(capacity);
  const std::int64_t padded = ops::padded_head_dim(shape.head_dim);
  keys_ = allocate({shape.n_layer, shape.n_head, tokens / ops::kKeyGroup, padded, ops::kKeyGroup}, dtype);
  values_ = allocate({shape.n_layer, shape.n_head, tokens, padded}, dtype);
  if (dtype == DType::i8) scales_ = allocate({shape.n_layer, 2, shape.n_head, tokens}, DType::f32);
}

ops::KvLayer KvCache::layer(std::int64_t index) noexcept {
  const auto part = [&](Tensor& t, std::int64_t i, std::int64_t parts) noexcept {
    return t.view().raw() + t.nbytes() / static_cast<std::size_t>(parts) * static_cast<std::size_t>(i);
  };
  ops::KvLayer layer;
  layer.dtype = keys_.dtype();
  layer.capacity = values_.dim(2);
  layer.keys = part(keys_, index, shape_.n_layer);
  layer.values = part(values_, index, shape_.n_layer);
  if (!scales_.empty()) {
    const std::int64_t n = shape_.n_head * layer.capacity;
    layer.key_scales = scales_.data<float>() + 2 * index * n;
    layer.value_scales = layer.key_scales + n;
  }
  return layer;
}

KvCache KvCache::clone() const {
  KvCache copy;
  copy.shape_ = shape_;
  copy.capacity_ = capacity_;
  copy.length_ = length_;
  copy.keys_ = copy_of(keys_);
  copy.values_ = copy_of(values_);
  if (!scales_.empty()) copy.scales_ = copy_of(scales_);
  return copy;
}

void KvCache::copy_from(const KvCache& from, std::int64_t same) {
  if (shape_ != from.shape_ || capacity_ != from.capacity_ || dtype() != from.dtype())
    fail<ArgumentError>("kv_cache", "cannot take the tokens of a cache of another shape, capacity or type");
  if (same < 0 || same > length_ || same > from.length_)
    fail<ArgumentError>("kv_cache", "caches of ", length_, " and ", from.length_, " tokens cannot have ",
                        same, " in common");
  // A group of keys that is shared in part is copied whole: its first tokens are the same.
  const std::int64_t group = same / ops::kKeyGroup, groups = ops::whole_groups(from.length_) / ops::kKeyGroup;
  const std::int64_t heads = shape_.n_layer * shape_.n_head, tokens = ops::whole_groups(capacity_);
  copy_rows(from.keys_, keys_, heads, tokens / ops::kKeyGroup, group, groups);
  copy_rows(from.values_, values_, heads, tokens, same, from.length_);
  if (!scales_.empty()) copy_rows(from.scales_, scales_, 2 * heads, tokens, same, from.length_);
  length_ = from.length_;
}

void KvCache::swap(KvCache& other) noexcept {
  std::swap(shape_, other.shape_);
  std::swap(capacity_, other.capacity_);
  std::swap(length_, other.length_);
  std::swap(keys_, other.keys_);
  std::swap(values_, other.values_);
  std::swap(scales_, other.scales_);
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > length_)
    fail<ArgumentError>("kv_cache", "cannot truncate ", length_, " tokens to ", length);
  length_ = length;
}

void KvCache::advance(std::int64_t count) {
  if (count < 0 || count > capacity_ - length_)
    fail<ArgumentError>("kv_cache", count, " more tokens do not fit behind ", length_, " of ", capacity_);
  length_ += count;
}

}  // namespace gpt::nn
