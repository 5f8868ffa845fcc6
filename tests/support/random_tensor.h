// Tensors filled with reproducible pseudo-random numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/float_environment.h"
#include "core/normal.h"
#include "gpt/core/rng.h"
#include "gpt/core/tensor.h"

namespace gpt::test {

/// Normally distributed values, rounded to `dtype` (f32, f16 or bf16).
inline Tensor random_tensor(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32,
                            float scale = 1.0f) {
  Tensor t = Tensor::empty(shape);
  const CounterRng rng(seed);
  const DefaultFloatEnvironment environment;
  std::uint64_t i = 0;
  for (float& v : t.span<float>()) v = scale * static_cast<float>(normal_here(rng, i++));
  return t.to(dtype);
}

inline bool same_bits(ConstTensorView a, ConstTensorView b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.nbytes() == 0 || std::memcmp(a.raw(), b.raw(), a.nbytes()) == 0);
}

/// Element i of a tensor of any floating-point type.
inline float widened(const Tensor& t, std::int64_t i) { return t.to(DType::f32).data<float>()[i]; }

}  // namespace gpt::test
