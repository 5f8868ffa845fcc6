#include "gpt/ops/optimizer.h"

#include <cmath>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/math.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

/// base^n for n >= 1 by repeated squaring.
double power(double base, std::int64_t n) noexcept {
  double result = 1;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

}  // namespace

double sum_of_squares(ConstTensorView x) {
  require_dtype("sum_of_squares", "x", x, DType::f32);
  const std::int64_t n = x.numel();
  const float* data = x.data<float>();
  const kernels::KernelTable& table = kernels::table();
  auto sums = with_memory_errors("sum_of_squares", [&] {
    return std::vector<double>(static_cast<std::size_t>((n + kElementsTogether - 1) / kElementsTogether));
  });
  for_elements(n, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; i += kElementsTogether)
      sums[static_cast<std::size_t>(i / kElementsTogether)] =
          table.sum_of_squares(data + i, std::min(kElementsTogether, end - i));
  });
  const DefaultFloatEnvironment environment;
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void adamw(TensorView parameter, ConstTensorView gradient, TensorView m, TensorView v, const AdamWStep& step,
           TensorView rest) {
  constexpr std::string_view op = "adamw";
  const bool whole = rest.raw() == nullptr;
  if (whole) require_dtype(op, "parameter", parameter, DType::f32);
  const auto require = [&](std::string_view name, ConstTensorView t) {
    require_dtype(op, name, t, DType::f32);
    require_shape(op, name, t, parameter.shape(), "the shape of the parameter");
  };
  require("gradient", gradient);
  require("m", m);
  require("v", v);
  if (step.step < 1) fail<ArgumentError>(op, "step is ", step.step, ", expected 1 or more");
  const DefaultFloatEnvironment environment;
  kernels::AdamWArgs args;
  if (whole)
    args.parameter = parameter.data<float>();
  else
    args.split = split_floats(op, parameter, rest, parameter.shape());
  args.gradient = gradient.data<float>();
  args.m = m.data<float>();
  args.v = v.data<float>();
  args.gradient_scale = static_cast<float>(step.gradient_scale);
  args.keep = static_cast<float>(1.0 - step.learning_rate * step.weight_decay);
  args.beta1 = static_cast<float>(step.beta1);
  args.rest1 = static_cast<float>(1.0 - step.beta1);
  args.beta2 = static_cast<float>(step.beta2);
  args.rest2 = static_cast<float>(1.0 - step.beta2);
  args.bias2_root = static_cast<float>(std::sqrt(1.0 - power(step.beta2, step.step)));
  args.epsilon = static_cast<float>(step.epsilon);
  args.step = static_cast<float>(step.learning_rate / (1.0 - power(step.beta1, step.step)));
  const kernels::KernelTable& table = kernels::table();
  for_elements(parameter.numel(), 8,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.adamw(args, begin, end); });
}

void average(ConstTensorView value, TensorView average, double decay, ConstTensorView rest) {
  constexpr std::string_view op = "average";
  require_dtype(op, "average", average, DType::f32);
  require_shape(op, "average", average, value.shape(), "the shape of the value");
  const DefaultFloatEnvironment environment;
  kernels::AverageArgs args;
  if (rest.raw() == nullptr) {
    require_dtype(op, "value", value, DType::f32);
    args.value = value.data<float>();
  } else {
    args.split = split_floats(op, value, rest, average.shape());
  }
  args.average = average.data<float>();
  args.keep = static_cast<float>(decay);
  args.rest = static_cast<float>(1.0 - decay);
  const kernels::KernelTable& table = kernels::table();
  for_elements(average.numel(), 2,
               [&](std::int64_t begin, std::int64_t end) noexcept { table.average(args, begin, end); });
}

}  // namespace gpt::ops
