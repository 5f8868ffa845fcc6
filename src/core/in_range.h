// Rounding that loses no number.
#pragma once

#include <string_view>

#include "gpt/core/tensor.h"

namespace gpt {

/// tensor.to(dtype). Throws NumericError naming `name` where a finite element becomes infinite, as 1e6 does in float16: such
/// weights are none to go on with; UnsupportedError as Tensor::to, MemoryError.
Tensor to_in_range(std::string_view name, const Tensor& tensor, DType dtype);

}  // namespace gpt
