#include "gpt/ops/dropout.h"

#include <algorithm>

#include "ops/checks.h"
#include "ops/dropout_key.h"

namespace gpt::ops {

void dropout(ConstTensorView x, const Dropout& dropout, ConstTensorView residual, TensorView y) {
  constexpr std::string_view op = "dropout";
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "y", y, x.shape(), "the shape of x");
  const float* add = nullptr;
  if (residual.raw() != nullptr) {
    require_dtype(op, "residual", residual, DType::f32);
    require_shape(op, "residual", residual, x.shape(), "the shape of x");
    add = residual.data<float>();
  }
  const kernels::DropoutKey key = dropout_key(op, dropout);
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const kernels::KernelTable& table = kernels::table();
  constexpr std::int64_t kTogether = 1024;
  constexpr std::int64_t kWorkPerElement = 32;
  parallel_for((x.numel() + kTogether - 1) / kTogether, grain_for(kWorkPerElement * kTogether),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 table.dropout(key, from, add, to, begin * kTogether, std::min(end * kTogether, x.numel()));
               });
}

}  // namespace gpt::ops
