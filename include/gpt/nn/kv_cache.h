// The keys and values of the tokens a sequence has seen, for every layer.
#pragma once

#include <cstdint>
#include <utility>

#include "gpt/core/tensor.h"
#include "gpt/ops/attention.h"

namespace gpt::nn {

/// What a cache must hold per token: one key and one value of head_dim floats per layer and head.
struct KvShape {
  std::int64_t n_layer = 0;
  std::int64_t n_head = 0;
  std::int64_t head_dim = 0;

  friend bool operator==(const KvShape&, const KvShape&) = default;
};

/// One sequence's attention cache, of fixed capacity: filled by the model's forward, owned by its caller. Memory is
/// reserved at once, in pages of 2 MiB where the system gives them, and used page by page as tokens arrive.
///
/// Its elements are float32, float16, bfloat16, or int8 with one float32 scale per layer, head and token for the key and
/// one for the value. Narrower ones are read faster and round what they hold: ops/attention.h says how, and how
/// everything lies. A result depends on the type, like on any other option.
class KvCache {
 public:
  KvCache() = default;                                // capacity 0
  KvCache(KvCache&& other) noexcept { swap(other); }  // leaves other empty
  KvCache& operator=(KvCache&& other) noexcept {
    KvCache(std::move(other)).swap(*this);
    return *this;
  }
  /// Room for `capacity` tokens. Throws ArgumentError on a non-positive extent or another type, MemoryError.
  KvCache(const KvShape& shape, std::int64_t capacity, DType dtype = DType::f32);

  /// A second cache with the same tokens, which goes its own way. Throws MemoryError.
  KvCache clone() const;
  /// Makes this hold the tokens of `from`, where both agree in the first `same` tokens: those are not copied. Throws
  /// ArgumentError when the caches differ in shape, capacity or type, or do not both hold `same` tokens.
  void copy_from(const KvCache& from, std::int64_t same);

  const KvShape& shape() const noexcept { return shape_; }
  DType dtype() const noexcept { return keys_.dtype(); }
  std::int64_t capacity() const noexcept { return capacity_; }
  /// Tokens held.
  std::int64_t length() const noexcept { return length_; }
  /// Forgets all tokens from `length` on. Throws ArgumentError when length is negative or above length().
  void truncate(std::int64_t length);
  /// Makes the `count` tokens written behind length() part of the sequence; for the model's forward.
  void advance(std::int64_t count);

  /// One layer's part, for the attention op.
  ops::KvLayer layer(std::int64_t index) noexcept;

  /// Bytes for all `capacity` tokens.
  std::size_t nbytes() const noexcept { return keys_.nbytes() + values_.nbytes() + scales_.nbytes(); }

 private:
  void swap(KvCache& other) noexcept;

  KvShape shape_;
  std::int64_t capacity_ = 0;
  std::int64_t length_ = 0;
  Tensor keys_;    // [n_layer, H, tokens / 16, padded head_dim, 16]
  Tensor values_;  // [n_layer, H, tokens, padded head_dim]
  Tensor scales_;  // of int8: [n_layer, 2, H, tokens], the keys' and the values'
};

}  // namespace gpt::nn
