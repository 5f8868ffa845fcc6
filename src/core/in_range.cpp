#include "core/in_range.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "gpt/core/error.h"

namespace gpt {

Tensor to_in_range(std::string_view name, const Tensor& tensor, DType dtype) {
  Tensor to = tensor.to(dtype);
  if (dtype == DType::f32 || dtype == tensor.dtype()) return to;
  const Tensor wide = std::as_const(to).to(DType::f32), from = tensor.to(DType::f32);
  for (std::int64_t i = 0; i < wide.numel(); ++i)
    if (std::isfinite(from.data<float>()[i]) && !std::isfinite(wide.data<float>()[i]))
      fail<NumericError>(name, "holds ", from.data<float>()[i], ", which is beyond ", name_of(dtype));
  return to;
}

}  // namespace gpt
