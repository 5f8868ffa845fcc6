// What training needs beside the gradients of the larger ops: transposing, sums over rows, the loss, the optimizer.

namespace gpt::kernels {
namespace {

/// y [width, height] = x [height, width] turned, of at most 16 rows and columns.
inline void transpose_tile(const float* x, std::int64_t x_stride, int height, int width, float* y,
                           std::int64_t y_stride) noexcept {
  F32x16 tile[kLanes];
  if (height == kLanes && width == kLanes) {
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) tile[j] = load(x + j * x_stride);
    transpose(tile);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(y + i * y_stride, tile[i]);
    return;
  }
  for (int j = 0; j < kLanes; ++j)
    tile[j] = j < height ? load_first(x + j * x_stride, width) : broadcast(0.0f);
  transpose(tile);
  for (int i = 0; i < width; ++i) store_first(y + i * y_stride, tile[i], height);
}

void transpose_rows_to_columns(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride,
                               std::int64_t columns, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t r = begin; r < end; r += kLanes) {
    const int height = lanes_left(r, end);
    for (std::int64_t c = 0; c < columns; c += kLanes) {
      const int width = lanes_left(c, columns);
      // A tile reads a line of each row: too many streams for the processor's own prefetching.
      for (int j = 0; j < kLanes; ++j) prefetch(x + (r + kLanes + j) * x_stride + c);
      transpose_tile(x + r * x_stride + c, x_stride, height, width, y + c * y_stride + r, y_stride);
    }
  }
}

/// sums[c] += the chain over the rows of x[r][c], starting at 0.
void add_column_sums(const float* x, std::int64_t rows, std::int64_t columns, float* sums, std::int64_t begin,
                     std::int64_t end) noexcept {
  for (std::int64_t c = begin; c < end; c += kLanes) {
    const int lanes = lanes_left(c, end);
    F32x16 sum = broadcast(0.0f);
    for (std::int64_t r = 0; r < rows; ++r) sum = sum + load_first(x + r * columns + c, lanes);
    store_first(sums + c, load_first(sums + c, lanes) + sum, lanes);
  }
}

void add_range(const float* x, float* y, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    store_first(y + i, load_first(y + i, lanes) + load_first(x + i, lanes), lanes);
  }
}

/// The rows of dy are added to the rows of the tables in their order; the range is of columns.
void embedding_backward_columns(const EmbeddingBackwardArgs& a, std::int64_t begin,
                                std::int64_t end) noexcept {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* dy = a.dy + r * a.columns;
    if (a.dwte != nullptr) add_range(dy, a.dwte + a.ids[r] * a.columns, begin, end);
    if (a.dwpe != nullptr) add_range(dy, a.dwpe + a.positions[r] * a.columns, begin, end);
  }
}

/// Logits become gradients: scale (softmax(x) - smoothing / columns, and 1 - smoothing less at the label).
CrossEntropyTerms cross_entropy_row(const CrossEntropyArgs& a) noexcept {
  const F32x16 zero = broadcast(0.0f);
  float* label = a.x + a.label;
  CrossEntropyTerms terms;
  terms.label_logit = *label;
  terms.max = max_of_row(a.x, a.columns);
  const F32x16 m = broadcast(terms.max);
  const auto below_max = [=](std::int64_t i, int lanes) noexcept {
    return first_lanes(load_first(a.x + i, lanes) - m, lanes, zero);
  };
  if (a.smoothing != 0) terms.below_max = sum_row(a.columns, below_max);
  terms.sum = sum_row(a.columns, [=](std::int64_t i, int lanes) noexcept {
    const F32x16 e = first_lanes(exp(load_first(a.x + i, lanes) - m), lanes, zero);
    store_first(a.x + i, e, lanes);
    return e;
  });
  const auto scale = static_cast<double>(a.scale);
  const F32x16 factor = broadcast(static_cast<float>(scale / terms.sum));
  const F32x16 uniform = broadcast(static_cast<float>(scale * a.smoothing / static_cast<double>(a.columns)));
  for (std::int64_t i = 0; i < a.columns; i += kLanes) {
    const int lanes = lanes_left(i, a.columns);
    store_first(a.x + i, load_first(a.x + i, lanes) * factor - uniform, lanes);
  }
  *label -= static_cast<float>(scale * (1 - a.smoothing));
  return terms;
}

double sum_of_squares(const float* x, std::int64_t n) noexcept {
  return sum_row(n, [=](std::int64_t i, int lanes) noexcept {
    const F32x16 v = load_first(x + i, lanes);
    return v * v;
  });
}

/// See ops::adamw; the range is of elements.
void adamw_range(const AdamWArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const F32x16 clip = broadcast(a.gradient_scale), keep = broadcast(a.keep);
  const F32x16 beta1 = broadcast(a.beta1), rest1 = broadcast(a.rest1), beta2 = broadcast(a.beta2),
               rest2 = broadcast(a.rest2);
  const F32x16 root = broadcast(a.bias2_root), epsilon = broadcast(a.epsilon), step = broadcast(a.step);
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    const F32x16 g = load_first(a.gradient + i, lanes) * clip;
    const F32x16 old = load_first(a.m + i, lanes);
    const F32x16 m = fma(rest1, g, old * beta1);
    const F32x16 v = fma(rest2 * g, g, load_first(a.v + i, lanes) * beta2);
    const F32x16 denominator = sqrt(v) / root + epsilon;
    const bool whole = a.parameter != nullptr;
    const F32x16 before =
        whole ? load_first(a.parameter + i, lanes) : join_first(a.split.value + i, a.split.rest + i, lanes);
    store_first(a.m + i, m, lanes);
    store_first(a.v + i, v, lanes);
    const F32x16 p = before * keep - step * m / denominator;  // in this order: torch rounds so
    if (whole)
      store_first(a.parameter + i, p, lanes);
    else
      split_first(p, a.split.value + i, a.split.rest + i, lanes);
  }
}

/// See ops::average; the range is of elements.
void average_range(const AverageArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const F32x16 keep = broadcast(a.keep), rest = broadcast(a.rest);
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    const F32x16 value = a.value != nullptr ? load_first(a.value + i, lanes)
                                            : join_first(a.split.value + i, a.split.rest + i, lanes);
    store_first(a.average + i, fma(rest, value, load_first(a.average + i, lanes) * keep), lanes);
  }
}

}  // namespace
}  // namespace gpt::kernels
