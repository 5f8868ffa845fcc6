// ops::Dropout as the kernels take it.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/float_environment.h"
#include "gpt/core/error.h"
#include "gpt/ops/dropout.h"
#include "kernels/kernels.h"

namespace gpt::ops {

inline kernels::DropoutKey dropout_key(std::string_view op, const Dropout& d) {
  if (!(d.rate >= 0 && d.rate < 1))
    fail<ArgumentError>(op, "dropout rate is ", d.rate, ", expected 0 to less than 1");
  const DefaultFloatEnvironment environment;
  const double rate = static_cast<double>(d.rate);
  // Rates below 2^-32 drop nothing.
  return {d.seed, d.stream, static_cast<std::uint32_t>(rate * 0x1p32), static_cast<float>(1 / (1 - rate))};
}

}  // namespace gpt::ops
