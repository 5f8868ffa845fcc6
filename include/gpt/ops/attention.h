// Causal multi-head attention over a cache of keys and values.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// Tokens per group of transposed keys, and the lanes of a score vector.
inline constexpr std::int64_t kKeyGroup = 16;
/// head_dim rounded up to whole vectors of 16 floats: the stride of a key or value in the cache. The padding
/// is zero.
constexpr std::int64_t padded_head_dim(std::int64_t head_dim) noexcept { return (head_dim + 15) / 16 * 16; }

/// One sequence's rows in a call, and one layer of its cache.
struct AttentionSpan {
  std::int64_t row = 0;     // its first row in qkv and y
  std::int64_t rows = 0;    // new tokens, at positions past .. past + rows - 1
  std::int64_t past = 0;    // tokens in the cache before
  float* keys = nullptr;    // [tokens / 16][H][padded head_dim][16]
  float* values = nullptr;  // [tokens][H][padded head_dim]
};

struct AttentionShape {
  std::int64_t n_head = 0;
  std::int64_t head_dim = 0;
  float scale = 1.0f;  // the scores are multiplied by it
};

/// Appends the new tokens' keys and values to the caches, then, for every head and new token t at position p,
///   y[t] = sum_j softmax_j(scale q[t] . k[j]) v[j],  j = 0 .. p.
///   qkv  float32 [R, 3 D]: query, key, value, heads concatenated in each, D = n_head * head_dim
///   y    float32 [R, D], heads concatenated
/// Online softmax (Milakov, Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135): keys are taken in
/// blocks of 64 counted from position 0, so that the arithmetic of a token depends on its own sequence alone.
/// Throws ShapeError.
void attention(ConstTensorView qkv, std::span<const AttentionSpan> batch, const AttentionShape& shape,
               TensorView y);

}  // namespace gpt::ops
