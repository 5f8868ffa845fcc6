#include "gpt/ops/elementwise.h"

#include <algorithm>

#include "ops/checks.h"

namespace gpt::ops {
namespace {

void require_like(std::string_view op, std::string_view operand, ConstTensorView t, ConstTensorView y) {
  require_dtype(op, operand, t, DType::f32);
  require_shape(op, operand, t, y.shape(), "the shape of y");
}

}  // namespace

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
