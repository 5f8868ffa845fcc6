// The keys and values of the tokens a sequence has seen, for every layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gpt/core/dtype.h"
#include "gpt/ops/attention.h"

namespace gpt::nn {

/// What a cache must hold per token: one key and one value of head_dim floats per layer and head.
struct KvShape {
  std::int64_t n_layer = 0;
  std::int64_t n_head = 0;
  std::int64_t head_dim = 0;
  std::vector<std::int64_t> layer_heads = {};  // of each layer; empty: n_head

  std::int64_t heads(std::int64_t layer) const noexcept {
    return layer_heads.empty() ? n_head : layer_heads[static_cast<std::size_t>(layer)];
  }
  /// Of the layers before `layer`; of all where it is n_layer.
  std::int64_t heads_before(std::int64_t layer) const noexcept;

  friend bool operator==(const KvShape&, const KvShape&) = default;
};

/// The memory of some consecutive tokens of a sequence, which several sequences that begin alike may share.
using KvPage = std::shared_ptr<std::byte>;

namespace detail {
class KvPoolState;
/// Where everything lies in a page; see ops::KvLayer.
struct KvLayout {
  KvLayout() = default;
  /// Throws MemoryError when a page would be larger than memory can be.
  KvLayout(const KvShape& shape, std::int64_t page_tokens, DType dtype);

  std::int64_t page_tokens = 0;
  std::int64_t row = 0;     // bytes of one key or value
  std::int64_t part = 0;    // of one head's keys, or values
  std::int64_t scales = 0;  // of one head's scales of keys, or of values
  std::int64_t bytes = 0;   // of a page
};
}  // namespace detail

/// One sequence's attention cache, of fixed capacity: filled by the model's forward, owned by its caller. Made by itself,
/// it is one page, whose memory is reserved at once, with 2 MiB at a time where the system gives them, and used as tokens
/// arrive. Made by a KvPool, it takes pages from there as tokens arrive, and may share them. The results are the same to
/// the bit.
///
/// Where an adapter puts virtual tokens before a sequence, the cache is made for as many, and the model's forward writes them
/// together with the first tokens. Lengths and capacities are of tokens alone; pages hold both.
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
  /// Room for `capacity` tokens behind the virtual ones. Throws ArgumentError on a non-positive extent, on layer_heads that are not those of
  /// n_layer layers, or on another type; MemoryError.
  KvCache(const KvShape& shape, std::int64_t capacity, DType dtype = DType::f32,
          std::int64_t virtual_tokens = 0);

  /// A second cache with the same tokens, which goes its own way. Of a pool's, it has the same pages, until one of the two
  /// writes to one. Throws MemoryError.
  KvCache clone() const;
  /// Makes this hold the tokens of `from`, where both agree in the first `same` tokens: those are not copied. Throws
  /// ArgumentError when the caches differ in shape, capacity, type, virtual tokens or pool, or do not both hold `same` tokens.
  void copy_from(const KvCache& from, std::int64_t same);
  /// Makes the cache of a pool hold the first `length` tokens of these pages of the same pool, which it shares from then on.
  /// Throws ArgumentError when it holds any already, has no pool, or they are not as many as that takes.
  void share(std::span<const KvPage> pages, std::int64_t length);

  /// Takes `page`, of the same pool, in place of the page of that index, where both hold the same of the same tokens: two
  /// sequences that begin alike and were computed side by side then share it. Throws ArgumentError when there is no such
  /// page.
  void replace(std::size_t index, KvPage page);

  const KvShape& shape() const noexcept { return shape_; }
  DType dtype() const noexcept { return dtype_; }
  std::int64_t capacity() const noexcept { return capacity_; }
  /// Tokens held.
  std::int64_t length() const noexcept { return length_; }
  std::int64_t virtual_tokens() const noexcept { return virtual_tokens_; }
  /// What is held with the virtual tokens: where the next token goes, unless the sequence only begins.
  std::int64_t positions() const noexcept { return positions_of(length_); }
  /// Takes the pages that tokens up to `length` need, and a copy of each that they would be written to while others see it,
  /// so that a forward up to there takes none. False when the pool cannot give them all; what it gave is kept. Throws
  /// ArgumentError when `length` is below length() or above the capacity, MemoryError when there is no memory for a page
  /// within the budget.
  bool try_reserve(std::int64_t length);
  /// The same for the model's forward, which does it for all caches of a batch first. Throws MemoryError when the pool
  /// cannot.
  void reserve(std::int64_t length);
  /// Forgets all tokens from `length` on, and gives back the pages of a pool behind them. Throws ArgumentError when length
  /// is negative or above length().
  void truncate(std::int64_t length);
  /// Makes the `count` tokens written behind length() part of the sequence; for the model's forward.
  void advance(std::int64_t count);

  /// One layer's part, for the attention op; it can be written to as far as reserved. Valid until pages come or go.
  ops::KvLayer layer(std::int64_t index) const noexcept;

  /// Tokens of a page, and the pages there are.
  std::int64_t page_tokens() const noexcept { return layout_.page_tokens; }
  std::span<const KvPage> pages() const noexcept { return pages_; }
  /// Bytes of these pages.
  std::size_t nbytes() const noexcept { return pages_.size() * static_cast<std::size_t>(layout_.bytes); }

 private:
  friend class KvPool;
  KvCache(const KvShape& shape, std::int64_t capacity, DType dtype, std::int64_t virtual_tokens,
          const detail::KvLayout& layout, std::shared_ptr<detail::KvPoolState> pool);

  std::int64_t positions_of(std::int64_t length) const noexcept {
    return length == 0 ? 0 : virtual_tokens_ + length;
  }
  std::size_t pages_for(std::int64_t length) const noexcept {
    return static_cast<std::size_t>((positions_of(length) + layout_.page_tokens - 1) / layout_.page_tokens);
  }

  void swap(KvCache& other) noexcept;
  void drop_pages(std::size_t count) noexcept;  // all but the first `count`

  KvShape shape_;
  DType dtype_ = DType::f32;
  std::int64_t capacity_ = 0;
  std::int64_t virtual_tokens_ = 0;
  std::int64_t length_ = 0;
  detail::KvLayout layout_;
  std::shared_ptr<detail::KvPoolState> pool_;  // null: the cache is one page of its own
  std::vector<KvPage> pages_;
  std::vector<std::byte*> data_;  // where they begin
};

}  // namespace gpt::nn
