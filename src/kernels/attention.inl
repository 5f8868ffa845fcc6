// Causal attention by online softmax: ops::attention gives the arithmetic. One query is answered by reading its head's cache
// once, several keys (and several stretches of d) at a time; a block of queries by register tiles of kMicroRows queries, as in
// the matrix product. Every sum is the same chain in both.

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

/// Calls f.template operator()<n>() for n = 1 .. most.
template <int most, class F>
inline void with_count(std::int64_t n, F&& f) noexcept {
  if constexpr (most > 1) {
    if (n < most) return with_count<most - 1>(n, f);
  }
  f.template operator()<most>();
}

/// scores[r][16 g ..] = the chains over d of q[r] and the keys of `groups` groups.
template <DType dtype, int rows, int groups>
inline void multiply_keys(const float* q, std::int64_t q_stride,
                          const typename CacheType<dtype>::Element* keys, std::int64_t group_stride,
                          std::int64_t head_dim, float* scores) noexcept {
  F32x16 acc[static_cast<unsigned>(rows * groups)];
  for (int i = 0; i < rows * groups; ++i) acc[i] = broadcast(0.0f);
  for (std::int64_t d = 0; d < head_dim; ++d) {
    F32x16 k[static_cast<unsigned>(groups)];
    for (int g = 0; g < groups; ++g) k[g] = CacheType<dtype>::load(keys + g * group_stride + d * kLanes);
    for (int r = 0; r < rows; ++r) {
      const F32x16 x = broadcast(q[r * q_stride + d]);
      for (int g = 0; g < groups; ++g) acc[r * groups + g] = fma(x, k[g], acc[r * groups + g]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int g = 0; g < groups; ++g) store(scores + r * kKeyBlock + g * kLanes, acc[r * groups + g]);
}

/// The state of one query between blocks, beside its y, which holds o.
struct RunningSoftmax {
  float m;
  float l[kLanes];
};

/// Scales the `count` scores of one query, whatever else stands in s becomes -infinity, and moves the maximum on. Returns
/// m - m'.
template <bool whole>
inline float scale_scores(float* s, int count, float scale, const float* key_scales, float& m) noexcept {
  const F32x16 minus_infinity = broadcast(-__builtin_inff());
  const int groups = whole ? kKeyGroups : (count + kLanes - 1) / kLanes;
  F32x16 largest = minus_infinity;
  for (int g = 0; g < groups; ++g) {
    F32x16 factor = broadcast(scale);
    if (key_scales != nullptr) factor = factor * load(key_scales + g * kLanes);
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
inline void weigh(float* s, int count, const float* value_scales, float c, RunningSoftmax& state) noexcept {
  const int groups = whole ? kKeyGroups : (count + kLanes - 1) / kLanes;
  const F32x16 m = broadcast(state.m);
  F32x16 l = load(state.l);
  for (int g = 0; g < groups; ++g) {
    const F32x16 p = exp_nonpositive(load(s + g * kLanes) - m);
    l = g == 0 ? fma(l, broadcast(c), p) : l + p;
    store(s + g * kLanes, value_scales == nullptr ? p : p * load(value_scales + g * kLanes));
  }
  store(state.l, l);
}

template <int i, int rows, class Acc>
inline void add_rest(const float* weights, std::int64_t extra, const float* values, std::int64_t stride,
                     Acc& acc) noexcept {
  if constexpr (i < rows) {
    if (i > extra) return;
    const F32x16 v = load(values);
    for (int r = i; r < rows; ++r) acc[r] = fma(broadcast(weights[r * kKeyBlock]), v, acc[r]);
    add_rest<i + 1, rows>(weights + 1, extra, values + stride, stride, acc);
  }
}

/// y[r] = c[r] y[r] + the chains over j of weights[r][j] and 16 elements of the values j, for rows r with keys
/// 0 .. count + min(r, extra).
template <int rows>
inline void add_values(const float* weights, std::int64_t count, std::int64_t extra, const float* values,
                       std::int64_t stride, const float* c, float* y, std::int64_t y_stride,
                       int lanes) noexcept {
  F32x16 acc[static_cast<unsigned>(rows)];
  for (int r = 0; r < rows; ++r) acc[r] = load_first(y + r * y_stride, lanes) * broadcast(c[r]);
  for (std::int64_t j = 0; j < count; ++j) {
    const F32x16 v = load(values + j * stride);
    for (int r = 0; r < rows; ++r) acc[r] = fma(broadcast(weights[r * kKeyBlock + j]), v, acc[r]);
  }
  add_rest<1, rows>(weights + count, extra, values + count * stride, stride, acc);
  for (int r = 0; r < rows; ++r) store_first(y + r * y_stride, acc[r], lanes);
}

/// The same for one query and `vectors` times 16 elements, the last of them `lanes`.
template <DType dtype, int vectors>
inline void stream_values(const float* weights, int count, const typename CacheType<dtype>::Element* values,
                          std::int64_t stride, float c, float* y, int lanes) noexcept {
  F32x16 acc[static_cast<unsigned>(vectors)];
  for (int v = 0; v < vectors; ++v)
    acc[v] = load_first(y + v * kLanes, v < vectors - 1 ? kLanes : lanes) * broadcast(c);
  for (int j = 0; j < count; ++j) {
    const F32x16 w = broadcast(weights[j]);
    for (int v = 0; v < vectors; ++v)
      acc[v] = fma(w, CacheType<dtype>::load(values + j * stride + v * kLanes), acc[v]);
  }
  for (int v = 0; v < vectors; ++v) store_first(y + v * kLanes, acc[v], v < vectors - 1 ? kLanes : lanes);
}

inline void start(RunningSoftmax& state, float* y, std::int64_t head_dim) noexcept {
  state.m = kLowest;
  store(state.l, broadcast(0.0f));
  for (std::int64_t d = 0; d < head_dim; d += kLanes)
    store_first(y + d, broadcast(0.0f), lanes_left(d, head_dim));
}

inline void finish_softmax(const RunningSoftmax& state, float* y, std::int64_t head_dim) noexcept {
  const F32x16 l = broadcast(sum_lanes(load(state.l)));
  for (std::int64_t d = 0; d < head_dim; d += kLanes) {
    const int lanes = lanes_left(d, head_dim);
    store_first(y + d, load_first(y + d, lanes) / l, lanes);
  }
}

/// The answer to one query with `count` keys, which reads the cache once.
template <DType dtype>
void attend_row(const AttentionArgs& a, const HeadCache<dtype>& cache, const float* q, std::int64_t count,
                float* y) noexcept {
  constexpr std::int64_t kVectors = 4;
  alignas(64) float scores[kKeyBlock];
  alignas(64) RunningSoftmax state;
  start(state, y, a.head_dim);
  const std::int64_t padded = cache.padded;
  for (std::int64_t first = 0; first < count; first += kKeyBlock) {
    const int keys = static_cast<int>(count - first < kKeyBlock ? count - first : kKeyBlock);
    with_count<kKeyGroups>((keys + kLanes - 1) / kLanes, [&]<int groups>() noexcept {
      multiply_keys<dtype, 1, groups>(q, 0, cache.keys + first * padded, padded * kLanes, a.head_dim, scores);
    });
    const float* key_scales = dtype == DType::i8 ? cache.key_scales + first : nullptr;
    const float* value_scales = dtype == DType::i8 ? cache.value_scales + first : nullptr;
    const float delta = keys == kKeyBlock ? scale_scores<true>(scores, keys, a.scale, key_scales, state.m)
                                          : scale_scores<false>(scores, keys, a.scale, key_scales, state.m);
    alignas(64) float c[kLanes];
    store(c, exp_nonpositive(broadcast(delta)));
    if (keys == kKeyBlock)
      weigh<true>(scores, keys, value_scales, c[0], state);
    else
      weigh<false>(scores, keys, value_scales, c[0], state);
    for (std::int64_t d = 0; d < padded; d += kVectors * kLanes)
      with_count<kVectors>((padded - d) / kLanes, [&]<int vectors>() noexcept {
        stream_values<dtype, vectors>(scores, keys, cache.values + first * padded + d, padded, c[0], y + d,
                                      lanes_left(d + (vectors - 1) * kLanes, a.head_dim));
      });
  }
  finish_softmax(state, y, a.head_dim);
}

/// The block's keys or values as float32: those of the cache, or widened into `room`.
template <DType dtype>
inline const float* widen(const typename CacheType<dtype>::Element* from, std::int64_t n,
                          float* room) noexcept {
  if constexpr (dtype == DType::f32) {
    return from;
  } else {
    for (std::int64_t i = 0; i < n; i += kLanes) store(room + i, CacheType<dtype>::load(from + i));
    return room;
  }
}

/// Rows rows.begin .. rows.end of a sequence, at most kAttentionRows.
template <DType dtype>
void attend_block(const AttentionArgs& a, const HeadCache<dtype>& cache, const TaskRows& rows) noexcept {
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float widened[dtype == DType::f32 ? 1 : kKeyBlock * kWidenedHeadDim];
  alignas(64) RunningSoftmax state[kAttentionRows];
  alignas(64) float c[kAttentionRows];
  const std::int64_t count = rows.end - rows.begin;
  const std::int64_t position = a.past + rows.begin;
  const std::int64_t padded = cache.padded;
  const float* q = a.query + rows.begin * a.stride + rows.head * a.head_dim;
  float* y = a.y + rows.begin * a.y_stride + rows.head * a.head_dim;
  for (std::int64_t r = 0; r < count; ++r) start(state[r], y + r * a.y_stride, a.head_dim);

  for (std::int64_t first = 0; first < position + count; first += kKeyBlock) {
    // Row r sees this many of the block's keys; a row in front of `active` sees none.
    const auto keys_of = [&](std::int64_t r) noexcept {
      const std::int64_t n = position + r + 1 - first;
      return static_cast<int>(n < kKeyBlock ? n : kKeyBlock);
    };
    const std::int64_t active = first > position ? first - position : 0;
    const std::int64_t width = (keys_of(count - 1) + kLanes - 1) / kLanes * kLanes;
    const float* block = widen<dtype>(cache.keys + first * padded, width * padded, widened);
    for (std::int64_t r = active; r < count; r += kMicroRows)
      with_count<kMicroRows>(count - r, [&]<int tile>() noexcept {
        const int groups = (keys_of(r + tile - 1) + kLanes - 1) / kLanes;
        for (int g = 0; g < groups; ++g)
          multiply_keys<DType::f32, tile, 1>(q + r * a.stride, a.stride, block + g * kLanes * padded, 0,
                                             a.head_dim, scores + r * kKeyBlock + g * kLanes);
      });

    const float* key_scales = dtype == DType::i8 ? cache.key_scales + first : nullptr;
    const float* value_scales = dtype == DType::i8 ? cache.value_scales + first : nullptr;
    for (std::int64_t r = active; r < count; ++r) {
      float* s = scores + r * kKeyBlock;
      const int keys = keys_of(r);
      c[r] = keys == kKeyBlock ? scale_scores<true>(s, keys, a.scale, key_scales, state[r].m)
                               : scale_scores<false>(s, keys, a.scale, key_scales, state[r].m);
    }
    for (std::int64_t r = active / kLanes * kLanes; r < count; r += kLanes)
      store(c + r, exp_nonpositive(load(c + r)));
    for (std::int64_t r = active; r < count; ++r) {
      float* s = scores + r * kKeyBlock;
      const int keys = keys_of(r);
      if (keys == kKeyBlock)
        weigh<true>(s, keys, value_scales, c[r], state[r]);
      else
        weigh<false>(s, keys, value_scales, c[r], state[r]);
    }

    block = widen<dtype>(cache.values + first * padded, keys_of(count - 1) * padded, widened);
    for (std::int64_t r = active; r < count; r += kMicroRows)
      with_count<kMicroRows>(count - r, [&]<int tile>() noexcept {
        const int keys = keys_of(r);
        for (std::int64_t d = 0; d < a.head_dim; d += kLanes)
          add_values<tile>(scores + r * kKeyBlock, keys, keys_of(r + tile - 1) - keys, block + d, padded,
                           c + r, y + r * a.y_stride + d, a.y_stride, lanes_left(d, a.head_dim));
      });
  }
  for (std::int64_t r = 0; r < count; ++r) finish_softmax(state[r], y + r * a.y_stride, a.head_dim);
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
                          a.y + r * a.y_stride + rows.head * a.head_dim);
    }
  });
}

}  // namespace
}  // namespace gpt::kernels
