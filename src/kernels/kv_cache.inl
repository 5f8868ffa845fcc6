// The cache of keys and values: its element types, and how a token gets into it. Rounding is part of the arithmetic:
// see ops::KvLayer.

namespace gpt::kernels {
namespace {

/// Elements of a cache, widened on loading and rounded on storing.
template <DType dtype>
struct CacheType : Loader<dtype> {};
template <>
struct CacheType<DType::i8> {
  using Element = std::int8_t;
  static F32x16 load(const std::int8_t* p) noexcept { return load_i8(p); }
};

template <DType dtype>
inline void store_rounded(typename CacheType<dtype>::Element* p, const F32x16& v) noexcept {
  if constexpr (dtype == DType::f16) {
    store_f16(p, v);
  } else if constexpr (dtype == DType::bf16) {
    store_bf16(p, v);
  } else if constexpr (dtype == DType::i8) {
    // In this order NaN becomes a number: the scale beside it tells. The sum leaves the nearest integer in the low bits.
    const F32x16 clamped = min(max(v, broadcast(-127.0f)), broadcast(127.0f));
    store_low_bytes(p, clamped + broadcast(0x1.8p23f));
  } else {
    store(p, v);
  }
}

/// Calls f.template operator()<dtype>() for the cache's type.
template <class F>
inline void with_cache_type(DType dtype, F f) noexcept {
  switch (dtype) {
    case DType::f16: return f.template operator()<DType::f16>();
    case DType::bf16: return f.template operator()<DType::bf16>();
    case DType::i8: return f.template operator()<DType::i8>();
    default: return f.template operator()<DType::f32>();
  }
}

/// Sixteen tokens of one head: keys [padded head_dim][16], values [16][padded head_dim].
template <DType dtype>
struct TokenGroup {
  using Element = typename CacheType<dtype>::Element;

  Element* keys = nullptr;
  Element* values = nullptr;
  float* key_scales = nullptr;  // of an int8 cache alone, as the values'
  float* value_scales = nullptr;
};

/// One head's part of a cache.
template <DType dtype>
struct HeadCache {
  using Element = typename CacheType<dtype>::Element;

  HeadCache(const AttentionArgs& a, std::int64_t head) noexcept
      : pages(a.cache.pages),
        padded(ops::padded_head_dim(a.head_dim)),
        page_groups(a.cache.page_tokens / kLanes) {
    const std::int64_t tokens = head * a.cache.page_tokens;
    constexpr auto kElement = static_cast<std::int64_t>(sizeof(Element));
    keys = a.cache.keys + tokens * padded * kElement;
    values = a.cache.values + tokens * padded * kElement;
    if constexpr (dtype == DType::i8) {
      constexpr auto kScale = static_cast<std::int64_t>(sizeof(float));
      key_scales = a.cache.key_scales + tokens * kScale;
      value_scales = a.cache.value_scales + tokens * kScale;
    }
  }

  /// The group of that number within a page.
  TokenGroup<dtype> group(std::byte* page, std::int64_t index) const noexcept {
    TokenGroup<dtype> g;
    g.keys = reinterpret_cast<Element*>(page + keys) + index * kLanes * padded;
    g.values = reinterpret_cast<Element*>(page + values) + index * kLanes * padded;
    if constexpr (dtype == DType::i8) {
      g.key_scales = reinterpret_cast<float*>(page + key_scales) + index * kLanes;
      g.value_scales = reinterpret_cast<float*>(page + value_scales) + index * kLanes;
    }
    return g;
  }
  /// The group that a token of the sequence lies in.
  TokenGroup<dtype> group_of(std::int64_t token) const noexcept {
    const std::int64_t index = token / kLanes, page = index / page_groups;
    return group(pages[page], index - page * page_groups);
  }

  std::byte* const* pages;
  std::int64_t padded;
  std::int64_t page_groups;
  // Bytes from a page's beginning to the head's part.
  std::int64_t keys = 0, values = 0, key_scales = 0, value_scales = 0;
};

/// Goes over a head's groups in the order of their tokens, without a division.
template <DType dtype>
class GroupWalk {
 public:
  explicit GroupWalk(const HeadCache<dtype>& cache) noexcept : cache_(cache), next_(cache.page_groups) {}

  TokenGroup<dtype> next() noexcept {
    if (next_ == cache_.page_groups) {
      page_ = cache_.pages[page_index_++];
      next_ = 0;
    }
    return cache_.group(page_, next_++);
  }

 private:
  const HeadCache<dtype>& cache_;
  std::byte* page_ = nullptr;
  std::int64_t page_index_ = 0;
  std::int64_t next_;  // within the page
};

/// Where a task's tokens lie.
struct TaskRows {
  TaskRows(const AttentionArgs& a, std::int64_t task) noexcept {
    const std::int64_t blocks = a.blocks();
    head = task / blocks;
    const std::int64_t from_end = task % blocks;
    const std::int64_t block = a.past / kAttentionRows + blocks - 1 - from_end;
    const std::int64_t first = block * kAttentionRows - a.past;
    const std::int64_t last = first + kAttentionRows;
    begin = first > 0 ? first : 0;
    end = last < a.rows ? last : a.rows;
  }
  std::int64_t head;
  std::int64_t begin, end;  // rows of the sequence
};

/// The scale of an int8 vector x[n] and its inverse, by which x is multiplied.
struct Int8Scale {
  float scale, inverse;
};
inline Int8Scale int8_scale(const float* x, std::int64_t n) noexcept {
  F32x16 largest = broadcast(0x1p-100f);  // so that the inverse is finite
  F32x16 poison = broadcast(0.0f);        // NaN from the first NaN or infinity on
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const F32x16 v = load_first(x + i, lanes_left(i, n));
    largest = max(abs(v), largest);
    poison = fma(v, broadcast(0.0f), poison);
  }
  const float m = max_lanes(largest);
  return {m / 127.0f + sum_lanes(poison), 127.0f / m};
}

template <DType dtype>
inline void append_value(const AttentionArgs& a, const HeadCache<dtype>& cache, const float* x,
                         std::int64_t position) noexcept {
  const TokenGroup<dtype> group = cache.group_of(position);
  auto* to = group.values + position % kLanes * cache.padded;
  F32x16 inverse = broadcast(1.0f);
  if constexpr (dtype == DType::i8) {
    const Int8Scale s = int8_scale(x, a.head_dim);
    group.value_scales[position % kLanes] = s.scale;
    inverse = broadcast(s.inverse);
  }
  for (std::int64_t d = 0; d < a.head_dim; d += kLanes) {
    const F32x16 v = load_first(x + d, lanes_left(d, a.head_dim));
    if constexpr (dtype == DType::i8)
      store_rounded<dtype>(to + d, v * inverse);
    else
      store_rounded<dtype>(to + d, v);
  }
}

template <DType dtype>
inline void append_key(const AttentionArgs& a, const HeadCache<dtype>& cache, const float* x,
                       std::int64_t position) noexcept {
  using Element = typename CacheType<dtype>::Element;
  const TokenGroup<dtype> group = cache.group_of(position);
  Element* to = group.keys + position % kLanes;
  F32x16 inverse = broadcast(1.0f);
  if constexpr (dtype == DType::i8) {
    const Int8Scale s = int8_scale(x, a.head_dim);
    group.key_scales[position % kLanes] = s.scale;
    inverse = broadcast(s.inverse);
  }
  for (std::int64_t d = 0; d < a.head_dim; d += kLanes) {
    const int lanes = lanes_left(d, a.head_dim);
    const F32x16 v = load_first(x + d, lanes);
    alignas(64) Element rounded[kLanes];
    if constexpr (dtype == DType::i8)
      store_rounded<dtype>(rounded, v * inverse);
    else
      store_rounded<dtype>(rounded, v);
    for (int i = 0; i < lanes; ++i) to[(d + i) * kLanes] = rounded[i];
  }
}

/// Sixteen keys, which make a whole group; x is the first one's.
template <DType dtype>
inline void append_group(const AttentionArgs& a, const HeadCache<dtype>& cache, const float* x,
                         std::int64_t position) noexcept {
  const TokenGroup<dtype> group = cache.group_of(position);
  auto* to = group.keys;
  alignas(64) float inverses[kLanes];
  if constexpr (dtype == DType::i8)
    for (int i = 0; i < kLanes; ++i) {
      const Int8Scale s = int8_scale(x + i * a.stride, a.head_dim);
      group.key_scales[i] = s.scale;
      inverses[i] = s.inverse;
    }
  for (std::int64_t d = 0; d < a.head_dim; d += kLanes) {
    F32x16 tile[kLanes];
    for (int i = 0; i < kLanes; ++i) tile[i] = load_first(x + i * a.stride + d, lanes_left(d, a.head_dim));
    transpose(tile);
    for (int i = 0; i < kLanes; ++i) {
      if constexpr (dtype == DType::i8)
        store_rounded<dtype>(to + (d + i) * kLanes, tile[i] * load(inverses));
      else
        store_rounded<dtype>(to + (d + i) * kLanes, tile[i]);
    }
  }
}

template <DType dtype>
void append_rows(const AttentionArgs& a, const TaskRows& rows) noexcept {
  const HeadCache<dtype> cache(a, rows.head);
  const float* key = a.key + rows.head * a.head_dim;
  const float* value = a.value + rows.head * a.head_dim;
  for (std::int64_t r = rows.begin; r < rows.end;) {
    const std::int64_t position = a.past + r;
    if (position % kLanes == 0 && r + kLanes <= rows.end) {
      append_group<dtype>(a, cache, key + r * a.stride, position);
      r += kLanes;
    } else {
      append_key<dtype>(a, cache, key + r * a.stride, position);
      ++r;
    }
  }
  for (std::int64_t r = rows.begin; r < rows.end; ++r)
    append_value<dtype>(a, cache, value + r * a.stride, a.past + r);
}

void append_tasks(const AttentionArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  with_cache_type(a.cache.dtype, [&]<DType dtype>() noexcept {
    for (std::int64_t task = begin; task < end; ++task) append_rows<dtype>(a, TaskRows(a, task));
  });
}

}  // namespace
}  // namespace gpt::kernels
