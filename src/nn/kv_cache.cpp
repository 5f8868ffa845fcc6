#include "gpt/nn/kv_cache.h"

#include "gpt/core/error.h"
#include "gpt/ops/attention.h"

namespace gpt::nn {

KvCache::KvCache(const KvShape& shape, std::int64_t capacity) : shape_(shape), capacity_(capacity) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
  if (capacity > kMostTokens) fail<MemoryError>("kv_cache", "cannot hold ", capacity, " tokens");
  if (shape.n_layer <= 0 || shape.n_head <= 0 || shape.head_dim <= 0 || capacity <= 0)
    fail<ArgumentError>("kv_cache", "n_layer ", shape.n_layer, ", n_head ", shape.n_head, ", head_dim ",
                        shape.head_dim, ", capacity ", capacity, ": expected positive numbers");
  const std::int64_t groups = (capacity + ops::kKeyGroup - 1) / ops::kKeyGroup;
  const Shape whole{shape.n_layer, groups, shape.n_head, ops::padded_head_dim(shape.head_dim),
                    ops::kKeyGroup};
  layer_stride_ = whole.numel() / shape.n_layer;
  keys_ = Tensor::zeros(whole);
  values_ = Tensor::zeros(whole);
}

KvCache KvCache::clone() const {
  KvCache copy;
  copy.shape_ = shape_;
  copy.capacity_ = capacity_;
  copy.length_ = length_;
  copy.layer_stride_ = layer_stride_;
  copy.keys_ = keys_.clone();
  copy.values_ = values_.clone();
  return copy;
}

void KvCache::swap(KvCache& other) noexcept {
  std::swap(shape_, other.shape_);
  std::swap(capacity_, other.capacity_);
  std::swap(length_, other.length_);
  std::swap(layer_stride_, other.layer_stride_);
  std::swap(keys_, other.keys_);
  std::swap(values_, other.values_);
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
