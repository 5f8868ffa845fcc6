#include "gpt/ops/bfloat16.h"

#include "ops/checks.h"

namespace gpt::ops {

void convert(ConstTensorView x, TensorView y) {
  constexpr std::string_view op = "convert";
  require_shape(op, "y", y, x.shape(), "the shape of x");
  const kernels::KernelTable& table = kernels::table();
  if (x.dtype() == DType::f32) {
    require_dtype(op, "y", y, DType::bf16);
    const float* from = x.data<float>();
    std::uint16_t* to = bf16_bits(y);
    for_elements(x.numel(), 1,
                 [&](std::int64_t begin, std::int64_t end) noexcept { table.round(from, to, begin, end); });
    return;
  }
  require_dtype(op, "x", x, DType::bf16);
  require_dtype(op, "y", y, DType::f32);
  const std::uint16_t* from = bf16_bits(x);
  float* to = y.data<float>();
  for_elements(x.numel(), 1,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.widen(from, to, begin, end); });
}

void split(ConstTensorView x, TensorView value, TensorView rest) {
  require_dtype("split", "x", x, DType::f32);
  const kernels::SplitFloats to = split_floats("split", value, rest, x.shape());
  const float* from = x.data<float>();
  const kernels::KernelTable& table = kernels::table();
  for_elements(x.numel(), 2,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.split(from, to, begin, end); });
}

void join(ConstTensorView value, ConstTensorView rest, TensorView x) {
  require_dtype("join", "x", x, DType::f32);
  const kernels::SplitFloats from = split_floats("join", value, rest, x.shape());
  float* to = x.data<float>();
  const kernels::KernelTable& table = kernels::table();
  for_elements(x.numel(), 2,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.join(from, to, begin, end); });
}

}  // namespace gpt::ops
