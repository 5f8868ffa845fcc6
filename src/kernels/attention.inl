// Causal attention by online softmax: ops::attention gives the arithmetic. One query is answered by reading its head's cache
// once, several keys (and several stretches of d) at a time; a block of queries by register tiles as in the matrix product, of
// kMicroRows queries or, where the registers allow, of kWideRows. Every sum is the same chain in both.

namespace gpt::kernels {
namespace {

inline constexpr int kKeyBlock = 64;
inline constexpr int kKeyGroups = kKeyBlock / kLanes;
/// Narrow caches are widened for a block of queries, up to this head_dim; beyond it, queries are answered one by one.
inline constexpr std::int64_t kWidenedHeadDim = 128;
/// Fewer queries than this are answered one by one.
inline constexpr std::int64_t kTiledRows = 3;
inline constexpr float kLowest = -__FLT_MAX__;

/// The bits of exp(x), for x <= 0, -infinity or NaN.
inline F32x16 exp_nonpositive(const F32x16& x) noexcept {
  const F32x16 lowest = broadcast(-87.33f), one = broadcast(1.0f);
  const F32x16 to_integer = broadcast(0x1.8p23f);
  const F32x16 clamped = max(lowest, x);
  const F32x16 shifted = fma(clamped, broadcast(0x1.715476p+0f), to_integer);
  const F32x16 n = shifted - to_integer;
  F32x16 r = fma(n, broadcast(-0x1.62e400p-1f), clamped);
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);
  F32x16 q = broadcast(0x1.6db426p-10f);
  q = fma(q, r, broadcast(0x1.123b56p-7f));
  q = fma(q, r, broadcast(0x1.55545ep-5f));
  q = fma(q, r, broadcast(0x1.55548ep-3f));
  q = fma(q, r, broadcast(0.5f));
  const F32x16 p = fma(q * r, r, r) + one;
  // 2^n as a factor instead of added to the exponent: NaN stays NaN.
  return select_less(x, lowest, broadcast(0.0f), p * add_exponent(one, shifted));
}

/// Where the groups of a block of keys lie. Those behind the last token are null.
template <DType dtype>
struct KeyBlock {
  using Element = typename CacheType<dtype>::Element;

  /// The walk's next groups, of a block with so many keys.
  void take(GroupWalk<dtype>& walk, std::int64_t count) noexcept {
    for (int g = 0; g < kKeyGroups; ++g) {
      const TokenGroup<dtype> group = g * kLanes < count ? walk.next() : TokenGroup<dtype>();
      keys[g] = group.keys;
      values[g] = group.values;
      key_scales[g] = group.key_scales;
      value_scales[g] = group.value_scales;
    }
  }
  /// Null unless the cache has scales.
  const float* const* scales_of_keys() const noexcept { return dtype == DType::i8 ? key_scales : nullptr; }
  const float* const* scales_of_values() const noexcept {
    return dtype == DType::i8 ? value_scales : nullptr;
  }

  const Element* keys[kKeyGroups];
  const Element* values[kKeyGroups];
  const float* key_scales[kKeyGroups];
  const float* value_scales[kKeyGroups];
};

/// How many of a block's keys lie in group g.
inline int keys_in_group(std::int64_t count, int g) noexcept {
  const std::int64_t left = count - g * kLanes;
  return left < 0 ? 0 : left < kLanes ? static_cast<int>(left) : kLanes;
}

/// scores[r][..] = the chains over d of q[r] and the 16 keys of each of `groups` groups.
template <int rows, int groups>
inline void multiply_keys(const float* q, std::int64_t q_stride, const float* const* keys,
                          std::int64_t head_dim, float* scores) noexcept {
  F32x16 acc[static_cast<unsigned>(groups)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int g = 0; g < groups; ++g)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) acc[g][r] = broadcast(0.0f);
  for (std::int64_t d = 0; d < head_dim; ++d)
    for_each_product<groups, rows>(
        [&](int g) noexcept { return load(keys[g] + d * kLanes); },
        [&](int r) noexcept { return broadcast(q[r * q_stride + d]); },
        [&](int g, int r, const F32x16& k, const F32x16& x) noexcept { acc[g][r] = fma(x, k, acc[g][r]); });
#pragma GCC unroll 16
  for (int g = 0; g < groups; ++g)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) store(scores + r * kKeyBlock + g * kLanes, acc[g][r]);
}

/// Asks for n elements that will be read soon. Narrow elements take so much work that the processor does not look far enough
/// ahead; for float32 it does.
template <DType dtype, int n>
inline void prefetch(const typename CacheType<dtype>::Element* p) noexcept {
  constexpr int kLine = 64 / static_cast<int>(sizeof(*p));
  if constexpr (dtype != DType::f32)
    for (int i = 0; i < n; i += kLine) __builtin_prefetch(p + i);
}

/// The same for one query and `groups` groups of a block; `next` is the block that follows.
template <DType dtype, int groups>
inline void stream_keys(const float* q, const KeyBlock<dtype>& block, const KeyBlock<dtype>& next,
                        std::int64_t padded, std::int64_t head_dim, float* scores) noexcept {
  F32x16 acc[static_cast<unsigned>(groups)];
  for (int g = 0; g < groups; ++g) acc[g] = broadcast(0.0f);
  const auto step = [&](std::int64_t d) noexcept {
    const F32x16 x = broadcast(q[d]);
    for (int g = 0; g < groups; ++g)
      acc[g] = fma(x, CacheType<dtype>::load(block.keys[g] + d * kLanes), acc[g]);
  };
  std::int64_t d = 0;
  if constexpr (dtype != DType::f32 &&
                groups == kKeyGroups) {  // a quarter of the way for each group that comes
    for (int g = 0; g < kKeyGroups && next.keys[g] != nullptr; ++g) {
      const auto* ahead = next.keys[g];
      const std::int64_t end = (g + 1) * (padded / kKeyGroups);
      for (; d < end && d < head_dim; ++d, ahead += kKeyBlock) {
        prefetch<dtype, kKeyBlock>(ahead);
        step(d);
      }
    }
  }
  for (; d < head_dim; ++d) step(d);
  for (int g = 0; g < groups; ++g) store(scores + g * kLanes, acc[g]);
}

/// The state of one query between blocks, beside its y, which holds o after the first.
struct RunningSoftmax {
  float m;
  float l[kLanes];
};

/// Scales the `count` scores of one query, whatever else stands in s becomes -infinity, and moves the maximum on. Returns
/// m - m'.
template <bool whole>
inline float scale_scores(float* s, int count, float scale, const float* const* key_scales,
                          float& m) noexcept {
  const F32x16 minus_infinity = broadcast(-__builtin_inff());
  const int groups = whole ? kKeyGroups : (count + kLanes - 1) / kLanes;
  F32x16 largest = minus_infinity;
  for (int g = 0; g < groups; ++g) {
    F32x16 factor = broadcast(scale);
    if (key_scales != nullptr) factor = factor * load(key_scales[g]);
    F32x16 scaled = load(s + g * kLanes) * factor;
    if constexpr (!whole) scaled = first_lanes(scaled, lanes_left(g * kLanes, count), minus_infinity);
    store(s + g * kLanes, scaled);
    largest = max(largest, scaled);
  }
  const float block_max = max_lanes(largest);
  const float old_max = m;
  m = m > block_max ? m : block_max;
  return old_max - m;
}

/// Scores become weights; l moves on.
template <bool whole>
inline void weigh(float* s, int count, const float* const* value_scales, float c,
                  RunningSoftmax& state) noexcept {
  const int groups = whole ? kKeyGroups : (count + kLanes - 1) / kLanes;
  const F32x16 m = broadcast(state.m);
  F32x16 l = load(state.l);
  for (int g = 0; g < groups; ++g) {
    const F32x16 p = exp_nonpositive(load(s + g * kLanes) - m);
    l = g == 0 ? fma(l, broadcast(c), p) : l + p;
    store(s + g * kLanes, value_scales == nullptr ? p : p * load(value_scales[g]));
  }
  store(state.l, l);
}

/// The values of a block, from element d on.
struct ValueColumns {
  const float* const* groups;
  std::int64_t stride;  // from value to value
  std::int64_t d;

  const float* group(int g) const noexcept { return groups[g] + d; }
  const float* value(std::int64_t j) const noexcept {
    return group(static_cast<int>(j / kLanes)) + j % kLanes * stride;
  }
};

template <int i, int rows, class Acc>
inline void add_rest(const float* weights, std::int64_t count, std::int64_t extra, const ValueColumns& values,
                     Acc& acc) noexcept {
  if constexpr (i < rows) {
    if (i > extra) return;
    const std::int64_t j = count + i - 1;
    const F32x16 v = load(values.value(j));
    for (int r = i; r < rows; ++r) acc[r] = fma(broadcast(weights[r * kKeyBlock + j]), v, acc[r]);
    add_rest<i + 1, rows>(weights, count, extra, values, acc);
  }
}

/// y[r] = c[r] y[r] + the chains over j of weights[r][j] and 16 elements of the values j, or those of several `vectors`, for rows r
/// with keys 0 .. count + min(r, extra). Several vectors are whole; of a single one, `lanes` elements are there. Where c is null, for
/// the first block, y is not read and the chains begin at 0, as c times 0 is; unless c is NaN, and then so is every weight.
template <int rows, int vectors>
inline void add_values(const float* weights, std::int64_t count, std::int64_t extra,
                       const ValueColumns& values, const float* c, float* y, std::int64_t y_stride,
                       int lanes) noexcept {
  if constexpr (vectors > 1) lanes = kLanes;
  F32x16 acc[static_cast<unsigned>(vectors)][static_cast<unsigned>(rows)];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      acc[v][r] =
          c == nullptr ? broadcast(0.0f) : load_first(y + r * y_stride + v * kLanes, lanes) * broadcast(c[r]);
  for (int g = 0; g * kLanes < count; ++g) {
    const float* const w = weights + g * kLanes;
    const float* value = values.group(g);
    const int keys = keys_in_group(count, g);
    for (int j = 0; j < keys; ++j, value += values.stride)
      for_each_product<vectors, rows>([&](int v) noexcept { return load(value + v * kLanes); },
                                      [&](int r) noexcept { return broadcast(w[r * kKeyBlock + j]); },
                                      [&](int v, int r, const F32x16& x, const F32x16& weight) noexcept {
                                        acc[v][r] = fma(weight, x, acc[v][r]);
                                      });
  }
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v)
    add_rest<1, rows>(weights, count, extra, {values.groups, values.stride, values.d + v * kLanes}, acc[v]);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store_first(y + r * y_stride + v * kLanes, acc[v][r], lanes);
}

/// The same for one query and `vectors` times 16 elements from d on, the last of them `lanes`. `ahead` is how many keys the
/// next block has.
template <DType dtype, int vectors>
inline void stream_values(const float* weights, int count, const KeyBlock<dtype>& block,
                          const KeyBlock<dtype>& next, std::int64_t d, std::int64_t stride,
                          std::int64_t ahead, float c, float* y, int lanes) noexcept {
  F32x16 acc[static_cast<unsigned>(vectors)];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) {
    const float* const o = y + v * kLanes;
    acc[v] = (v < vectors - 1 ? load(o) : load_first(o, lanes)) * broadcast(c);
  }
  for (int g = 0; g * kLanes < count; ++g) {
    const auto* values = block.values[g] + d;
    const int keys = keys_in_group(count, g), coming_keys = keys_in_group(ahead, g);
    for (int j = 0; j < keys; ++j, values += stride) {
      if (dtype != DType::f32 && j < coming_keys)
        prefetch<dtype, vectors * kLanes>(next.values[g] + j * stride + d);
      const F32x16 w = broadcast(weights[g * kLanes + j]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) acc[v] = fma(w, CacheType<dtype>::load(values + v * kLanes), acc[v]);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) {
    float* const o = y + v * kLanes;
    v < vectors - 1 ? store(o, acc[v]) : store_first(o, acc[v], lanes);
  }
}

inline void start_softmax(RunningSoftmax& state) noexcept {
  state.m = kLowest;
  store(state.l, broadcast(0.0f));
}

inline void finish_softmax(const RunningSoftmax& state, float* y, std::int64_t head_dim,
                           float* statistics) noexcept {
  const float total = sum_lanes(load(state.l));
  if (statistics != nullptr) {
    statistics[0] = state.m;
    statistics[1] = 1.0f / total;
  }
  const F32x16 l = broadcast(total);
  for (std::int64_t d = 0; d < head_dim; d += kLanes) {
    const int lanes = lanes_left(d, head_dim);
    store_first(y + d, load_first(y + d, lanes) / l, lanes);
  }
}

/// From scores to weights, for one query; returns c. See weigh_block for several.
inline float weigh_row(float* s, int keys, float scale, const float* const* key_scales,
                       const float* const* value_scales, RunningSoftmax& state) noexcept {
  alignas(64) float c[kLanes];
  if (keys == kKeyBlock) {
    store(c, exp_nonpositive(broadcast(scale_scores<true>(s, keys, scale, key_scales, state.m))));
    weigh<true>(s, keys, value_scales, c[0], state);
  } else {
    store(c, exp_nonpositive(broadcast(scale_scores<false>(s, keys, scale, key_scales, state.m))));
    weigh<false>(s, keys, value_scales, c[0], state);
  }
  return c[0];
}

/// The answer to one query with `count` keys, which reads the cache once.
template <DType dtype>
void attend_row(const AttentionArgs& a, const HeadCache<dtype>& cache, const float* q, std::int64_t count,
                float* y, float* statistics, std::int64_t head) noexcept {
  constexpr std::int64_t kVectors = 4;
  const std::int64_t padded = cache.padded;
  const auto keys_from = [count](std::int64_t first) noexcept {
    const std::int64_t left = count - first;
    return left < 0 ? 0 : left < kKeyBlock ? left : kKeyBlock;
  };
  alignas(64) float scores[kKeyBlock];
  alignas(64) RunningSoftmax state;
  start_softmax(state);
  for (std::int64_t d = 0; d < a.head_dim; d += kLanes)
    store_first(y + d, broadcast(0.0f), lanes_left(d, a.head_dim));
  GroupWalk<dtype> walk(cache);
  KeyBlock<dtype> blocks[2];
  blocks[0].take(walk, keys_from(0));
  for (std::int64_t first = 0; first < count; first += kKeyBlock) {
    const KeyBlock<dtype>& block = blocks[first / kKeyBlock % 2];
    KeyBlock<dtype>& next = blocks[(first / kKeyBlock + 1) % 2];
    const int keys = static_cast<int>(keys_from(first));
    const std::int64_t ahead = keys_from(first + kKeyBlock);
    next.take(walk, ahead);
    with_count<kKeyGroups>((keys + kLanes - 1) / kLanes, [&]<int groups>() noexcept {
      stream_keys<dtype, groups>(q, block, next, padded, a.head_dim, scores);
    });
    const float c = weigh_row(scores, keys, a.scale, block.scales_of_keys(), block.scales_of_values(), state);
    if (a.dropout.threshold != 0) drop_weights(a.dropout, a.rows, head, count - 1, first, keys, scores);
    for (std::int64_t d = 0; d < padded; d += kVectors * kLanes)
      with_count<kVectors>((padded - d) / kLanes, [&]<int vectors>() noexcept {
        stream_values<dtype, vectors>(scores, keys, block, next, d, padded, ahead, c, y + d,
                                      lanes_left(d + (vectors - 1) * kLanes, a.head_dim));
      });
  }
  finish_softmax(state, y, a.head_dim, statistics);
}

/// A block's keys or values as float32: those of the cache, or widened into `room`, whose groups are `group` elements apart.
/// `vectors` of 16 elements are wanted.
template <DType dtype>
inline void widen(const typename CacheType<dtype>::Element* const* from, std::int64_t vectors,
                  std::int64_t group, float* room, const float** to) noexcept {
  for (int g = 0; g < kKeyGroups; ++g) {
    if constexpr (dtype == DType::f32) {
      to[g] = from[g];
    } else {
      to[g] = room + g * group;
      const std::int64_t left = vectors * kLanes - g * group, n = left < group ? left : group;
      for (std::int64_t i = 0; i < n; i += kLanes)
        store(room + g * group + i, CacheType<dtype>::load(from[g] + i));
    }
  }
}

/// Queries that are answered together, and one block of keys: those from `first` on.
struct QueryBlock {
  const float* q;  // of the first query
  std::int64_t q_stride;
  float* y;  // holds o after the first block
  std::int64_t y_stride;
  std::int64_t count, position;  // of the first query
  std::int64_t first;

  /// Of the block's keys, query r sees this many.
  int keys_of(std::int64_t r) const noexcept {
    const std::int64_t n = position + r + 1 - first;
    return static_cast<int>(n < kKeyBlock ? n : kKeyBlock);
  }
  /// The first query that sees any.
  std::int64_t active() const noexcept { return first > position ? first - position : 0; }
};

/// Whether a tile is divided into some of kWideRows rows, against several groups of keys or stretches of values at once.
static_assert((kWidePanels == kKeyGroups && kMicroRows % kWideRows == 0) || kWidePanels == 1);
template <int tile>
inline constexpr bool kWideTile = (tile == kMicroRows) && (kWidePanels > 1);

inline void multiply_block(const QueryBlock& b, const float* const* keys, std::int64_t head_dim,
                           float* scores) noexcept {
  const auto multiply = [&]<int rows, int together>(std::int64_t r, int g) noexcept {
    multiply_keys<rows, together>(b.q + r * b.q_stride, b.q_stride, keys + g, head_dim,
                                  scores + r * kKeyBlock + g * kLanes);
  };
  for (std::int64_t r = b.active(); r < b.count; r += kMicroRows)
    with_count<kMicroRows>(b.count - r, [&]<int tile>() noexcept {
      const int groups = (b.keys_of(r + tile - 1) + kLanes - 1) / kLanes;
      if constexpr (kWideTile<tile>) {
        if (groups == kKeyGroups) {
          for (int i = 0; i < tile; i += kWideRows)
            multiply.template operator()<kWideRows, kKeyGroups>(r + i, 0);
          return;
        }
      }
      for (int g = 0; g < groups; ++g) multiply.template operator()<tile, 1>(r, g);
    });
}

inline void weigh_block(const QueryBlock& b, float scale, const float* const* key_scales,
                        const float* const* value_scales, RunningSoftmax* state, float* scores,
                        float* c) noexcept {
  for (std::int64_t r = b.active(); r < b.count; ++r) {
    float* s = scores + r * kKeyBlock;
    const int keys = b.keys_of(r);
    c[r] = keys == kKeyBlock ? scale_scores<true>(s, keys, scale, key_scales, state[r].m)
                             : scale_scores<false>(s, keys, scale, key_scales, state[r].m);
  }
  for (std::int64_t r = b.active() / kLanes * kLanes; r < b.count; r += kLanes)
    store(c + r, exp_nonpositive(load(c + r)));
  for (std::int64_t r = b.active(); r < b.count; ++r) {
    float* s = scores + r * kKeyBlock;
    const int keys = b.keys_of(r);
    if (keys == kKeyBlock)
      weigh<true>(s, keys, value_scales, c[r], state[r]);
    else
      weigh<false>(s, keys, value_scales, c[r], state[r]);
  }
}

inline void add_block(const QueryBlock& b, const float* const* values, std::int64_t head_dim,
                      std::int64_t padded, const float* weights, const float* c) noexcept {
  const auto add = [&]<int rows, int together>(std::int64_t r, std::int64_t d) noexcept {
    const int keys = b.keys_of(r);
    add_values<rows, together>(weights + r * kKeyBlock, keys, b.keys_of(r + rows - 1) - keys,
                               ValueColumns{values, padded, d}, b.first == 0 ? nullptr : c + r,
                               b.y + r * b.y_stride + d, b.y_stride, lanes_left(d, head_dim));
  };
  for (std::int64_t r = b.active(); r < b.count; r += kMicroRows)
    with_count<kMicroRows>(b.count - r, [&]<int tile>() noexcept {
      std::int64_t d = 0;
      if constexpr (kWideTile<tile>)
        for (; d + kWidePanels * kLanes <= head_dim; d += kWidePanels * kLanes)
          for (int i = 0; i < tile; i += kWideRows) add.template operator()<kWideRows, kWidePanels>(r + i, d);
      for (; d < head_dim; d += kLanes) add.template operator()<tile, 1>(r, d);
    });
}

/// Rows rows.begin .. rows.end of a sequence, at most kAttentionRows.
template <DType dtype>
void attend_block(const AttentionArgs& a, const HeadCache<dtype>& cache, const TaskRows& rows) noexcept {
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float widened[dtype == DType::f32 ? 1 : kKeyBlock * kWidenedHeadDim];
  alignas(64) RunningSoftmax state[kAttentionRows];
  alignas(64) float c[kAttentionRows] = {};
  const std::int64_t padded = cache.padded;
  QueryBlock b{a.query + rows.begin * a.stride + rows.head * a.head_dim,
               a.stride,
               a.y + rows.begin * a.y_stride + rows.head * a.head_dim,
               a.y_stride,
               rows.end - rows.begin,
               a.past + rows.begin,
               0};
  for (std::int64_t r = 0; r < b.count; ++r) start_softmax(state[r]);
  GroupWalk<dtype> walk(cache);
  KeyBlock<dtype> block;
  const float* groups[kKeyGroups];
  for (; b.first < b.position + b.count; b.first += kKeyBlock) {
    const std::int64_t keys = b.keys_of(b.count - 1);
    block.take(walk, keys);
    widen<dtype>(block.keys, (keys + kLanes - 1) / kLanes * padded, kLanes * padded, widened, groups);
    multiply_block(b, groups, a.head_dim, scores);
    weigh_block(b, a.scale, block.scales_of_keys(), block.scales_of_values(), state, scores, c);
    if (a.dropout.threshold != 0)
      for (std::int64_t r = b.active(); r < b.count; ++r)
        drop_weights(a.dropout, a.rows, rows.head, b.position + r, b.first, b.keys_of(r),
                     scores + r * kKeyBlock);
    widen<dtype>(block.values, keys * padded / kLanes, kLanes * padded, widened, groups);
    add_block(b, groups, a.head_dim, padded, scores, c);
  }
  for (std::int64_t r = 0; r < b.count; ++r)
    finish_softmax(state[r], b.y + r * b.y_stride, a.head_dim, a.statistics_of(rows.begin + r, rows.head));
}

void attention_tasks(const AttentionArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  with_cache_type(a.cache.dtype, [&]<DType dtype>() noexcept {
    for (std::int64_t task = begin; task < end; ++task) {
      const TaskRows rows(a, task);
      const HeadCache<dtype> cache(a, rows.head);
      if (rows.end - rows.begin >= kTiledRows && (dtype == DType::f32 || cache.padded <= kWidenedHeadDim)) {
        attend_block<dtype>(a, cache, rows);
        continue;
      }
      for (std::int64_t r = rows.begin; r < rows.end; ++r)
        attend_row<dtype>(a, cache, a.query + r * a.stride + rows.head * a.head_dim, a.past + r + 1,
                          a.y + r * a.y_stride + rows.head * a.head_dim, a.statistics_of(r, rows.head),
                          rows.head);
    }
  });
}

}  // namespace
}  // namespace gpt::kernels
