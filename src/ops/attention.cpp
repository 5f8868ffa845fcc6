#include "gpt/ops/attention.h"

#include <cstring>

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

/// Puts one token's key and value at its place in the cache.
void append(const AttentionShape& shape, const float* key, const float* value, std::int64_t position,
            float* keys, float* values) noexcept {
  const std::int64_t padded = padded_head_dim(shape.head_dim);
  for (std::int64_t h = 0; h < shape.n_head; ++h) {
    float* group =
        keys + (position / kKeyGroup * shape.n_head + h) * padded * kKeyGroup + position % kKeyGroup;
    for (std::int64_t d = 0; d < shape.head_dim; ++d) group[d * kKeyGroup] = key[h * shape.head_dim + d];
    std::memcpy(values + (position * shape.n_head + h) * padded, value + h * shape.head_dim,
                static_cast<std::size_t>(shape.head_dim) * sizeof(float));
  }
}

void check(ConstTensorView qkv, std::span<const AttentionSpan> batch, const AttentionShape& shape,
           TensorView y) {
  constexpr std::string_view op = "attention";
  const std::int64_t d = shape.n_head * shape.head_dim;
  require_rank(op, "qkv", qkv, 2, "[R, 3 D]");
  require_dtype(op, "qkv", qkv, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "qkv", qkv, {qkv.dim(0), 3 * d}, "[R, 3 D]");
  require_shape(op, "y", y, {qkv.dim(0), d}, "[R, D]");
  for (const AttentionSpan& s : batch) {
    if (s.row < 0 || s.rows < 0 || s.row + s.rows > qkv.dim(0))
      fail<ShapeError>(op, "rows [", s.row, ", ", s.row + s.rows, ") are outside qkv's ", qkv.dim(0));
    if (s.past < 0 || s.keys == nullptr || s.values == nullptr)
      fail<ShapeError>(op, "a sequence has no cache");
  }
}

}  // namespace

void attention(ConstTensorView qkv, std::span<const AttentionSpan> batch, const AttentionShape& shape,
               TensorView y) {
  check(qkv, batch, shape, y);
  const kernels::KernelTable& table = kernels::table();
  const std::int64_t d = shape.n_head * shape.head_dim;
  const float* in = qkv.data<float>();
  float* out = y.data<float>();
  for (const AttentionSpan& s : batch) {
    const float* row = in + s.row * 3 * d;
    constexpr std::int64_t kWorkPerElement = 4;  // a transposed store
    parallel_for(s.rows, grain_for(kWorkPerElement * d), [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t r = begin; r < end; ++r)
        append(shape, row + (3 * r + 1) * d, row + (3 * r + 2) * d, s.past + r, s.keys, s.values);
    });
    kernels::AttentionArgs args;
    args.query = row;
    args.query_stride = 3 * d;
    args.keys = s.keys;
    args.values = s.values;
    args.y = out + s.row * d;
    args.y_stride = d;
    args.rows = s.rows;
    args.past = s.past;
    args.n_head = shape.n_head;
    args.head_dim = shape.head_dim;
    args.padded_head_dim = padded_head_dim(shape.head_dim);
    args.scale = shape.scale;
    const std::int64_t mean_keys = s.past + (s.rows + 1) / 2;
    parallel_for(args.tasks(), grain_for(2 * mean_keys * shape.head_dim),
                 [&](std::int64_t begin, std::int64_t end) noexcept { table.attention(args, begin, end); });
  }
}

}  // namespace gpt::ops
