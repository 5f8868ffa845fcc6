#include "gpt/ops/elementwise.h"

#include <algorithm>
#include <cstring>

#include "ops/checks.h"

namespace gpt::ops {
namespace {

void require_like(std::string_view op, std::string_view operand, ConstTensorView t, ConstTensorView y) {
  require_dtype(op, operand, t, DType::f32);
  require_shape(op, operand, t, y.shape(), "the shape of y");
}

void require_columns(std::string_view op, std::string_view operand, ConstTensorView v, std::int64_t columns) {
  require_dtype(op, operand, v, DType::f32);
  if (v.numel() != columns)
    fail<ShapeError>(op, operand, " has shape ", v.shape().to_string(), ", expected C = ", columns,
                     " elements");
}

/// Runs body(first, last) over rows of so many columns.
template <class Body>
void for_rows(ConstTensorView x, const Body& body) {
  parallel_for(x.dim(0), grain_for(x.dim(1)), body);
}

}  // namespace

void zero(TensorView y) noexcept {
  constexpr std::int64_t kGrain = std::int64_t{1} << 20;
  std::byte* const bytes = y.raw();
  parallel_for(
      static_cast<std::int64_t>(y.nbytes()), kGrain,
      [bytes](std::int64_t begin, std::int64_t end) noexcept {
        std::memset(bytes + begin, 0, static_cast<std::size_t>(end - begin));
      },
      Sharing::kStretches);
}

void add_columns(ConstTensorView x, ConstTensorView v, TensorView y) {
  constexpr std::string_view op = "add_columns";
  require_rank(op, "y", y, 2, "[R, C]");
  require_dtype(op, "y", y, DType::f32);
  require_like(op, "x", x, y);
  const std::int64_t columns = y.dim(1);
  require_columns(op, "v", v, columns);
  const float *from = x.data<float>(), *added = v.data<float>();
  float* to = y.data<float>();
  for_rows(y, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t c = 0; c < columns; ++c) to[r * columns + c] = from[r * columns + c] + added[c];
  });
}

void scale_columns(ConstTensorView x, ConstTensorView v, ConstTensorView center, TensorView y) {
  constexpr std::string_view op = "scale_columns";
  require_rank(op, "y", y, 2, "[R, C]");
  require_dtype(op, "y", y, DType::f32);
  require_like(op, "x", x, y);
  const std::int64_t columns = y.dim(1);
  require_columns(op, "v", v, columns);
  const bool centered = center.raw() != nullptr;
  if (centered) require_columns(op, "center", center, columns);
  const float *from = x.data<float>(), *factors = v.data<float>(),
              *middle = centered ? center.data<float>() : nullptr;
  float* to = y.data<float>();
  for_rows(y, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = from + r * columns;
      float* result = to + r * columns;
      if (centered)
        for (std::int64_t c = 0; c < columns; ++c) result[c] = middle[c] + factors[c] * (row[c] - middle[c]);
      else
        for (std::int64_t c = 0; c < columns; ++c) result[c] = factors[c] * row[c];
    }
  });
}

void scale_columns_backward(ConstTensorView x, ConstTensorView center, ConstTensorView dy, TensorView dv) {
  constexpr std::string_view op = "scale_columns_backward";
  require_rank(op, "dy", dy, 2, "[R, C]");
  require_dtype(op, "dy", dy, DType::f32);
  require_like(op, "x", x, TensorView(const_cast<std::byte*>(dy.raw()), dy.dtype(), dy.shape()));
  const std::int64_t rows = dy.dim(0), columns = dy.dim(1);
  require_columns(op, "dv", dv, columns);
  const bool centered = center.raw() != nullptr;
  if (centered) require_columns(op, "center", center, columns);
  const float *from = x.data<float>(), *gradient = dy.data<float>(),
              *middle = centered ? center.data<float>() : nullptr;
  float* sums = dv.data<float>();
  for_columns(columns, rows, [&](std::int64_t begin, std::int64_t end) noexcept {
    float chains[kPanelWidth];
    for (std::int64_t first = begin; first < end; first += kPanelWidth) {
      const std::int64_t last = std::min(first + kPanelWidth, end);
      std::fill(std::begin(chains), std::end(chains), 0.0f);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = first; c < last; ++c) {
          const float x_c = from[r * columns + c] - (centered ? middle[c] : 0.0f);
          chains[c - first] += gradient[r * columns + c] * x_c;
        }
      for (std::int64_t c = first; c < last; ++c) sums[c] += chains[c - first];
    }
  });
}

void add_column_sums(ConstTensorView x, TensorView sums) {
  constexpr std::string_view op = "add_column_sums";
  require_rank(op, "x", x, 2, "[R, C]");
  require_dtype(op, "x", x, DType::f32);
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  require_columns(op, "sums", sums, columns);
  const float* from = x.data<float>();
  float* to = sums.data<float>();
  const kernels::KernelTable& table = kernels::table();
  for_columns(columns, rows, [&](std::int64_t begin, std::int64_t end) noexcept {
    table.add_column_sums(from, rows, columns, to, begin, end);
  });
}

void add(ConstTensorView x, TensorView y) {
  constexpr std::string_view op = "add";
  require_dtype(op, "y", y, DType::f32);
  require_like(op, "x", x, y);
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const kernels::KernelTable& table = kernels::table();
  for_elements(x.numel(), 1,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.add(from, to, begin, end); });
}

void add(ConstTensorView a, ConstTensorView b, TensorView y) {
  constexpr std::string_view op = "add";
  require_dtype(op, "y", y, DType::f32);
  require_like(op, "a", a, y);
  const bool sums = b.raw() != nullptr;
  if (sums) require_like(op, "b", b, y);
  const float *x = a.data<float>(), *other = sums ? b.data<float>() : nullptr;
  float* to = y.data<float>();
  for_elements(y.numel(), 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    if (sums)
      for (std::int64_t i = begin; i < end; ++i) to[i] = x[i] + other[i];
    else if (to != x)
      std::copy(x + begin, x + end, to + begin);
  });
}

void scale(ConstTensorView x, float factor, TensorView y) {
  constexpr std::string_view op = "scale";
  require_dtype(op, "y", y, DType::f32);
  require_like(op, "x", x, y);
  const float* from = x.data<float>();
  float* to = y.data<float>();
  for_elements(y.numel(), 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) to[i] = factor * from[i];
  });
}

}  // namespace gpt::ops
