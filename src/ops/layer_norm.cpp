#include "gpt/ops/layer_norm.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {

void layer_norm(ConstTensorView x, ConstTensorView gamma, ConstTensorView beta, float epsilon, TensorView y) {
  constexpr std::string_view op = "layer_norm";
  require_rank(op, "x", x, 2, "[R, C]");
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "y", y, x.shape(), "the shape of x");
  require_weight_dtype(op, "gamma", gamma);
  require_weight_dtype(op, "beta", beta);
  require_elements(op, "gamma", gamma, x.dim(1), "C");
  require_elements(op, "beta", beta, x.dim(1), "C");

  const kernels::LayerNormArgs args{x.data<float>(), weights(gamma),  weights(beta),
                                    epsilon,         y.data<float>(), x.dim(1)};
  const kernels::KernelTable& table = kernels::table();
  constexpr std::int64_t kPasses = 4;  // over a row
  parallel_for(x.dim(0), grain_for(kPasses * x.dim(1)),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.layer_norm(args, begin, end); });
}

void layer_norm_backward(ConstTensorView x, ConstTensorView gamma, float epsilon, ConstTensorView dy,
                         TensorView dx, TensorView dgamma, TensorView dbeta, Arena& scratch) {
  constexpr std::string_view op = "layer_norm_backward";
  require_rank(op, "x", x, 2, "[R, C]");
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "dy", dy, DType::f32);
  require_shape(op, "dy", dy, x.shape(), "the shape of x");
  if (dx.raw() != nullptr) {
    require_dtype(op, "dx", dx, DType::f32);
    require_shape(op, "dx", dx, x.shape(), "the shape of x");
  }
  require_weight_dtype(op, "gamma", gamma);
  require_elements(op, "gamma", gamma, columns, "C");
  const auto sum_of = [&](std::string_view name, TensorView gradient) -> float* {
    if (gradient.raw() == nullptr) return nullptr;
    require_dtype(op, name, gradient, DType::f32);
    require_elements(op, name, gradient, columns, "C");
    return gradient.data<float>();
  };
  float *const gamma_sum = sum_of("dgamma", dgamma), *const beta_sum = sum_of("dbeta", dbeta);

  const Arena::Scope scope(scratch);
  kernels::LayerNormBackwardArgs args;
  args.x = x.data<float>();
  args.dy = dy.data<float>();
  args.gamma = weights(gamma);
  args.epsilon = epsilon;
  args.dx = dx.data<float>();
  args.statistics = scratch.take({rows, 2}).data<float>();
  args.rows = rows;
  args.columns = columns;
  const kernels::KernelTable& table = kernels::table();
  constexpr std::int64_t kPasses = 8;  // over a row
  parallel_for(rows, grain_for(kPasses * columns), [&](std::int64_t begin, std::int64_t end) noexcept {
    table.layer_norm_backward(args, begin, end);
  });
  if (gamma_sum == nullptr && beta_sum == nullptr) return;
  args.dgamma = gamma_sum;
  args.dbeta = beta_sum;
  for_columns(columns, rows, [&](std::int64_t begin, std::int64_t end) noexcept {
    table.layer_norm_parameters(args, begin, end);
  });
}

}  // namespace gpt::ops
