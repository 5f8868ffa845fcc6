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

}  // namespace gpt::ops
