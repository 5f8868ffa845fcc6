// The gradient of causal attention, after FlashAttention (Dao et al., arXiv 2205.14135, algorithm 4): probabilities are made
// again from the scores and what the forward pass has left of each row, 16 keys at a time, so that no matrix of scores is kept.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kGradientRows = 48;    // queries that meet a group of keys together
inline constexpr std::int64_t kGradientDepth = 512;  // elements of a key that are held transposed

/// y[r] += the chain over c = 0 .. count - 1 of weights[r row_step + c chain_step] and 16 elements of values[c].
template <int rows, bool whole>
inline void add_chains(const float* weights, std::int64_t row_step, std::int64_t chain_step,
                       const float* values, std::int64_t stride, std::int64_t count, float* y,
                       std::int64_t y_stride, int lanes) noexcept {
  F32x16 acc[static_cast<unsigned>(rows)];
  for (int r = 0; r < rows; ++r)
    acc[r] = whole ? load(y + r * y_stride) : load_first(y + r * y_stride, lanes);
  for (std::int64_t c = 0; c < count; ++c) {
    const F32x16 v = whole ? load(values + c * stride) : load_first(values + c * stride, lanes);
    for (int r = 0; r < rows; ++r) acc[r] = fma(broadcast(weights[r * row_step + c * chain_step]), v, acc[r]);
  }
  for (int r = 0; r < rows; ++r) {
    if constexpr (whole)
      store(y + r * y_stride, acc[r]);
    else
      store_first(y + r * y_stride, acc[r], lanes);
  }
}

/// The same for any number of rows and all elements of a head.
inline void add_chains(std::int64_t rows, const float* weights, std::int64_t row_step,
                       std::int64_t chain_step, const float* values, std::int64_t stride, std::int64_t count,
                       float* y, std::int64_t y_stride, std::int64_t head_dim) noexcept {
  for (std::int64_t r = 0; r < rows; r += kMicroRows)
    with_count<kMicroRows>(rows - r, [&]<int tile>() noexcept {
      for (std::int64_t d = 0; d < head_dim; d += kLanes) {
        const int lanes = lanes_left(d, head_dim);
        if (lanes == kLanes)
          add_chains<tile, true>(weights + r * row_step, row_step, chain_step, values + d, stride, count,
                                 y + r * y_stride + d, y_stride, lanes);
        else
          add_chains<tile, false>(weights + r * row_step, row_step, chain_step, values + d, stride, count,
                                  y + r * y_stride + d, y_stride, lanes);
      }
    });
}

/// to[i][j] = from[j][i] for `rows` rows of `depth` elements; rows past the end are 0.
inline void transpose_rows(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t depth,
                           float* to) noexcept {
  for (std::int64_t d = 0; d < depth; d += kLanes) {
    const int lanes = lanes_left(d, depth);
    F32x16 tile[kLanes];
    for (int j = 0; j < kLanes; ++j)
      tile[j] = j < rows ? load_first(from + j * stride + d, lanes) : broadcast(0.0f);
    transpose(tile);
    for (int i = 0; i < lanes; ++i) store(to + (d + i) * kLanes, tile[i]);
  }
}

/// One head of a sequence.
struct HeadGradient {
  const AttentionBackwardArgs& a;
  std::int64_t head;
  std::int64_t at = head * a.head_dim;
  const float *q = a.query + at, *k = a.key + at, *v = a.value + at;
  const float *y = a.y + at, *dy = a.dy + at;
  float *dq = a.dquery + at, *dk = a.dkey + at, *dv = a.dvalue + at;
  float* delta = a.deltas + head * a.rows;

  /// Gradients become 0, deltas dy . y: the same chains as those of dy . v, so that a query with one key has no gradient.
  void start() const noexcept {
    alignas(64) float y_turned[kLanes * kLanes], dy_turned[kLanes * kLanes];
    for (std::int64_t r = 0; r < a.rows; r += kLanes) {
      const int rows = lanes_left(r, a.rows);
      F32x16 sum = broadcast(0.0f);
      for (std::int64_t d = 0; d < a.head_dim; d += kLanes) {
        const int depth = lanes_left(d, a.head_dim);
        for (int i = 0; i < rows; ++i)
          for (float* gradient : {dq, dk, dv})
            store_first(gradient + (r + i) * a.stride + d, broadcast(0.0f), depth);
        transpose_rows(y + r * a.y_stride + d, a.y_stride, rows, depth, y_turned);
        transpose_rows(dy + r * a.y_stride + d, a.y_stride, rows, depth, dy_turned);
        for (int i = 0; i < depth; ++i)
          sum = fma(load(dy_turned + i * kLanes), load(y_turned + i * kLanes), sum);
      }
      store_first(delta + r, sum, rows);
    }
  }

  /// Scores of the keys from j0 on become what values are weighed by, and gradients of that those of the scores; keys
  /// behind the query have none.
  void weigh(std::int64_t row, std::int64_t j0, std::int64_t visible, float* p, float* ds) const noexcept {
    const float* statistics = a.statistics + (row * a.n_head + head) * 2;
    const F32x16 scale = broadcast(a.scale), zero = broadcast(0.0f);
    const int lanes = lanes_left(0, visible);
    const F32x16 e = exp_nonpositive(load(p) * scale - broadcast(statistics[0]));
    const F32x16 probability = first_lanes(e * broadcast(statistics[1]), lanes, zero);
    F32x16 weight = probability, dweight = load(ds);
    if (a.dropout.threshold != 0) {
      const F32x16 factors = attention_dropout(a.dropout, a.rows, head, row, j0 / kLanes);
      weight = weight * factors;
      dweight = dweight * factors;
    }
    const F32x16 gradient = probability * (dweight - broadcast(delta[row])) * scale;
    store(p, weight);
    store(ds, first_lanes(gradient, lanes, zero));
  }

  /// Keys j0 .. j0 + 15 and all queries that see them.
  void group(std::int64_t j0) const noexcept {
    alignas(64) float keys[kGradientDepth * kLanes], values[kGradientDepth * kLanes];
    alignas(64) float p[kGradientRows * kLanes], ds[kGradientRows * kLanes];
    const std::int64_t count = lanes_left(j0, a.rows);
    const bool held = a.head_dim <= kGradientDepth;
    for (std::int64_t i0 = j0; i0 < a.rows; i0 += kGradientRows) {
      const std::int64_t rows = a.rows - i0 < kGradientRows ? a.rows - i0 : kGradientRows;
      for (std::int64_t r = 0; r < rows; ++r) {
        store(p + r * kLanes, broadcast(0.0f));
        store(ds + r * kLanes, broadcast(0.0f));
      }
      for (std::int64_t d0 = 0; d0 < a.head_dim; d0 += kGradientDepth) {
        const std::int64_t depth = a.head_dim - d0 < kGradientDepth ? a.head_dim - d0 : kGradientDepth;
        if (!held || i0 == j0) {
          transpose_rows(k + j0 * a.stride + d0, a.stride, count, depth, keys);
          transpose_rows(v + j0 * a.stride + d0, a.stride, count, depth, values);
        }
        for (std::int64_t r = 0; r < rows; r += kMicroRows) {
          const std::int64_t tile = rows - r < kMicroRows ? rows - r : kMicroRows;
          multiply_rows(tile, q + (i0 + r) * a.stride + d0, a.stride, keys, depth, p + r * kLanes);
          multiply_rows(tile, dy + (i0 + r) * a.y_stride + d0, a.y_stride, values, depth, ds + r * kLanes);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t behind = i0 + r - j0 + 1;
        weigh(i0 + r, j0, behind < count ? behind : count, p + r * kLanes, ds + r * kLanes);
      }
      add_chains(count, p, 1, kLanes, dy + i0 * a.y_stride, a.y_stride, rows, dv + j0 * a.stride, a.stride,
                 a.head_dim);
      add_chains(count, ds, 1, kLanes, q + i0 * a.stride, a.stride, rows, dk + j0 * a.stride, a.stride,
                 a.head_dim);
      add_chains(rows, ds, kLanes, 1, k + j0 * a.stride, a.stride, count, dq + i0 * a.stride, a.stride,
                 a.head_dim);
    }
  }
};

void attention_backward_heads(const AttentionBackwardArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t head = begin; head < end; ++head) {
    const HeadGradient gradient{a, head};
    gradient.start();
    for (std::int64_t j = 0; j < a.rows; j += kLanes) gradient.group(j);
  }
}

}  // namespace
}  // namespace gpt::kernels
