#include "gpt/ops/linear.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {

void linear(ConstTensorView x, ConstTensorView weight, WeightLayout layout, const LinearEpilogue& epilogue,
            TensorView y) {
  constexpr std::string_view op = "linear";
  require_rank(op, "x", x, 2, "[M, K]");
  require_rank(op, "weight", weight, 2, layout == WeightLayout::kInOut ? "[K, N]" : "[N, K]");
  const std::int64_t m = x.dim(0), k = x.dim(1);
  const std::int64_t n = weight.dim(layout == WeightLayout::kInOut ? 1 : 0);
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_weight_dtype(op, "weight", weight);
  if (layout == WeightLayout::kInOut)
    require_shape(op, "weight", weight, {k, n}, "[K, N]");
  else
    require_shape(op, "weight", weight, {n, k}, "[N, K]");
  require_shape(op, "y", y, {m, n}, "[M, N]");

  kernels::LinearArgs args;
  args.x = x.data<float>();
  args.weight = weights(weight);
  args.layout = layout;
  if (epilogue.bias.raw() != nullptr) {
    require_weight_dtype(op, "bias", epilogue.bias);
    require_elements(op, "bias", epilogue.bias, n, "N");
    args.bias = weights(epilogue.bias);
  }
  args.activation = epilogue.activation;
  if (epilogue.residual.raw() != nullptr) {
    require_dtype(op, "residual", epilogue.residual, DType::f32);
    require_shape(op, "residual", epilogue.residual, {m, n}, "[M, N]");
    args.residual = epilogue.residual.data<float>();
  }
  args.y = y.data<float>();
  args.m = m;
  args.k = k;
  args.n = n;
  const kernels::KernelTable& table = kernels::table();
  const std::int64_t work = std::min(m, kernels::kLinearRows) * kernels::kLinearColumns * k;
  parallel_for(args.tasks(), grain_for(work),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.linear(args, begin, end); });
}

}  // namespace gpt::ops
