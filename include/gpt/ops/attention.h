// Causal multi-head attention over a cache of keys and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/ops/dropout.h"

namespace gpt::ops {

/// Tokens per group of transposed keys, and the lanes of a score vector.
inline constexpr std::int64_t kKeyGroup = 16;
/// Rounded up to whole groups of 16.
constexpr std::int64_t whole_groups(std::int64_t n) noexcept {
  return (n + kKeyGroup - 1) / kKeyGroup * kKeyGroup;
}
/// head_dim rounded up to whole vectors of 16 elements: the stride of a key or value in the cache. What the padding holds
/// does not matter.
constexpr std::int64_t padded_head_dim(std::int64_t head_dim) noexcept { return whole_groups(head_dim); }

/// f32, f16, bf16 or i8: what the elements of a cache may be.
constexpr bool is_cache_dtype(DType dtype) noexcept { return is_weight_dtype(dtype) || dtype == DType::i8; }

/// One layer of one sequence's cache. Its tokens lie in pages of page_tokens each, one after another: token t in pages[t /
/// page_tokens]. What a page holds of the layer begins at the byte offsets below, which are the same in all of its pages and
/// multiples of 64; everything of a head is contiguous, so that it is read as one stream:
///   keys    [H][page_tokens / 16][padded head_dim][16]: groups of 16 tokens, transposed
///   values  [H][page_tokens][padded head_dim]
///   key_scales, value_scales  float32 [H][page_tokens], of an int8 cache alone
/// How tokens are divided among pages changes no bit of a result.
/// A key or value x [head_dim] is rounded to the cache's type before any use, also by the call that brings it:
///   f16, bf16  to the nearest, ties to even, element by element; beyond float16's range it becomes infinite
///   i8         x = scale q with m = max(2^-100, max_d |x_d|), scale = m / 127, q_d = rint(x_d (127 / m)); where an
///              element is NaN or infinite, the scale is NaN, and so is what is computed from it
struct KvLayer {
  DType dtype = DType::f32;
  std::int64_t page_tokens = 0;  // a multiple of 16
  std::int64_t page_count = 0;
  std::byte* const* pages = nullptr;  // aligned to 64 bytes
  std::int64_t keys = 0, values = 0, key_scales = 0, value_scales = 0;

  std::int64_t capacity() const noexcept { return page_count * page_tokens; }
};

/// One sequence's rows in a call, and one layer of its cache.
struct AttentionSpan {
  std::int64_t row = 0;   // its first row in qkv and y
  std::int64_t rows = 0;  // new tokens, at positions past .. past + rows - 1
  std::int64_t past = 0;  // tokens in the cache before
  KvLayer cache = {};
  std::int64_t skipped = 0;  // the first of its rows, whose results nobody needs: they are not written
};

struct AttentionShape {
  std::int64_t n_head = 0;
  std::int64_t head_dim = 0;
  float scale = 1.0f;  // the scores are multiplied by it
  /// Of the probabilities of whole sequences (past = 0, skipped = 0); sequence s of a call takes the stream `stream + s`, and the bits of
  /// key j for the query at position i of head h, in a sequence of T tokens, have the index 16 ceil(T / 16) (h T + i) + j.
  Dropout dropout = {};
};

/// Appends the new tokens' keys and values to the caches, then, for every head and new token t, but those
/// skipped, at position p,
///   y[t] = sum_j softmax_j(scale q[t] . k[j]) v[j],  j = 0 .. p,  k and v as the cache holds them.
///   qkv  float32 [R, 3 D]: query, key, value, heads concatenated in each, D = n_head * head_dim
///   y    float32 [R, D], heads concatenated
/// Online softmax (Milakov, Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135) over blocks of 64 keys counted
/// from position 0, so that the arithmetic of a token depends on its own sequence alone. Starting with m = -FLT_MAX,
/// l = 0, o = 0, each block does, all in float32:
///   s_j = scale (fma chain over d of q_d k_jd);                  int8: k_jd = q, and scale times the key's scale
///   m'  = max(m, max_j s_j),  p_j = e^(s_j - m'),  c = e^(m - m')
///   l_i = fma(l_i, c, p_i) + p_(i+16) + p_(i+32) + p_(i+48), i = 0 .. 15
///   o_d = fma chain over j of p_j v_jd, starting at c o_d;       int8: v_jd = q, and p_j times the value's scale
/// and at the end y_d = o_d / (sum of the l_i by the tree of 16). Keys behind the query take no part; a NaN in what it
/// sees makes the result NaN.
/// statistics, float32 [R, H, 2] unless empty, receives m and 1 / (sum of the l_i) of each row for attention_backward.
/// Throws ShapeError; UnsupportedError for dropout in a sequence with a past or skipped rows.
void attention(ConstTensorView qkv, std::span<const AttentionSpan> batch, const AttentionShape& shape,
               TensorView y, TensorView statistics = {});

/// The probabilities of a sequence of T tokens without a past, for people to look at: attention does not hold them.
///   qkv            float32 [T, 3 D]
///   probabilities  float32 [H, T, T]: softmax over the keys j <= i of scale q[i] . k[j], 0 behind the query
/// Dropout takes no part. A row: scores as chains of fused multiply-adds over d in float32, the rest in double, in the order of
/// the keys. Throws ShapeError.
void attention_probabilities(ConstTensorView qkv, const AttentionShape& shape, TensorView probabilities);

/// The gradient of attention over whole sequences (past = 0, skipped = 0) with a float32 cache, which it does not read:
///   qkv, y, statistics  as attention left them
///   dy                  float32 [R, D], the gradient of y
///   dqkv                float32 [R, 3 D], written for the rows of the sequences
/// With s, p = e^(s - m) / l as in the forward pass and delta_i = dy_i . y_i, all products chains in float32:
///   dv_j = chain over i = j .. of p_ij dy_i,            g_ij = p_ij (dy_i . v_j - delta_i) scale
///   dk_j = chain over i = j .. of g_ij q_i,             dq_i = chain over j = 0 .. i of g_ij k_j
/// where dropout multiplies p_ij in dv_j, and dy_i . v_j in g_ij, by its factors. Keys are taken 16 at a time, and a query
/// takes part in the sums of all of a group with weight 0 for those behind it.
/// Throws ShapeError, MemoryError.
void attention_backward(ConstTensorView qkv, std::span<const AttentionSpan> batch,
                        const AttentionShape& shape, ConstTensorView y, ConstTensorView statistics,
                        ConstTensorView dy, TensorView dqkv, Arena& scratch);

}  // namespace gpt::ops
