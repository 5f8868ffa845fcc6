// The keys and values of the tokens a sequence has seen, for every layer.
#pragma once

#include <cstdint>
#include <utility>

#include "gpt/core/tensor.h"

namespace gpt::nn {

/// What a cache must hold per token: one key and one value of head_dim floats per layer and head.
struct KvShape {
  std::int64_t n_layer = 0;
  std::int64_t n_head = 0;
  std::int64_t head_dim = 0;

  friend bool operator==(const KvShape&, const KvShape&) = default;
};

/// One sequence's attention cache, float32, of fixed capacity: filled by the model's forward, owned by its
/// caller. Memory is reserved at once and used page by page as tokens arrive.
///
/// Keys lie in groups of 16 tokens, transposed within a group, so that the scores of 16 keys are computed
/// side by side; values lie row by row. Both are laid out for the attention kernel: see ops/attention.h.
class KvCache {
 public:
  KvCache() = default;                                // capacity 0
  KvCache(KvCache&& other) noexcept { swap(other); }  // leaves other empty
  KvCache& operator=(KvCache&& other) noexcept {
    KvCache(std::move(other)).swap(*this);
    return *this;
  }
  /// Room for `capacity` tokens. Throws ArgumentError on a non-positive extent, MemoryError.
  KvCache(const KvShape& shape, std::int64_t capacity);

  /// A second cache with the same tokens, which goes its own way. Throws MemoryError.
  KvCache clone() const;

  const KvShape& shape() const noexcept { return shape_; }
  std::int64_t capacity() const noexcept { return capacity_; }
  /// Tokens held.
  std::int64_t length() const noexcept { return length_; }
  /// Forgets all tokens from `length` on. Throws ArgumentError when length is negative or above length().
  void truncate(std::int64_t length);
  /// Makes the `count` tokens written behind length() part of the sequence; for the model's forward.
  void advance(std::int64_t count);

  /// Of one layer, for the attention op: keys [capacity/16][n_head][padded head_dim][16].
  float* keys(std::int64_t layer) noexcept { return keys_.data<float>() + layer * layer_stride_; }
  const float* keys(std::int64_t layer) const noexcept { return keys_.data<float>() + layer * layer_stride_; }
  /// Values [capacity][n_head][padded head_dim].
  float* values(std::int64_t layer) noexcept { return values_.data<float>() + layer * layer_stride_; }
  const float* values(std::int64_t layer) const noexcept {
    return values_.data<float>() + layer * layer_stride_;
  }

 private:
  void swap(KvCache& other) noexcept;

  KvShape shape_;
  std::int64_t capacity_ = 0;
  std::int64_t length_ = 0;
  std::int64_t layer_stride_ = 0;  // floats
  Tensor keys_;
  Tensor values_;
};

}  // namespace gpt::nn
