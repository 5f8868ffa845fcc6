#include "peft/dora.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/fingerprint.h"
#include "core/float_environment.h"
#include "gpt/core/arena.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/linear.h"

namespace gpt::peft {
namespace {

/// scaling A^T, float32 [in, r].
Tensor scaled_transpose(const Tensor& a, float scaling) {
  const DefaultFloatEnvironment environment;
  const Tensor wide = a.to(DType::f32);
  const std::int64_t r = a.dim(0), in = a.dim(1);
  Tensor transposed = Tensor::empty({in, r});
  for (std::int64_t i = 0; i < in; ++i)
    for (std::int64_t k = 0; k < r; ++k)
      transposed.data<float>()[i * r + k] = scaling * wide.data<float>()[k * in + i];
  return transposed;
}

std::uint64_t fingerprint_of(const Tensor& a, const Tensor& b, float scaling) {
  Fingerprint sum;
  sum.add(std::bit_cast<std::uint32_t>(scaling));
  for (const Tensor* t : {&a, &b}) sum.add({reinterpret_cast<const char*>(t->view().raw()), t->nbytes()});
  return sum.value();
}

}  // namespace

void add_product(const Tensor& a, const Tensor& b, float scaling, Tensor& sum) {
  const Tensor x = scaled_transpose(a, scaling);
  const ops::Weight weight{.in = b.dim(1), .out = b.dim(0), .layout = ops::WeightLayout::kOutIn, .values = b};
  Arena arena;
  ops::linear(x, weight, {.residual = sum}, sum, arena);
}

Tensor column_norms(const Tensor& w) {
  const std::int64_t in = w.dim(0), out = w.dim(1);
  Tensor norms = Tensor::empty({out});
  const float* values = w.data<float>();
  float* to = norms.data<float>();
  constexpr std::int64_t kTogether = 16;
  parallel_for((out + kTogether - 1) / kTogether, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t group = begin; group < end; ++group) {
      double squares[kTogether] = {};
      const std::int64_t first = group * kTogether, count = std::min(kTogether, out - first);
      for (std::int64_t i = 0; i < in; ++i)
        for (std::int64_t j = 0; j < count; ++j) {
          const auto x = static_cast<double>(values[i * out + first + j]);
          squares[j] += x * x;
        }
      for (std::int64_t j = 0; j < count; ++j) to[first + j] = static_cast<float>(std::sqrt(squares[j]));
    }
  });
  return norms;
}

Tensor InverseNorms::of(const ops::Weight& weight, const ops::Weight& a, const ops::Weight& b,
                        float scaling) const {
  const std::uint64_t now = fingerprint_of(a.values, b.values, scaling);
  const std::lock_guard lock(mutex_);
  if (!inverse_.empty() && fingerprint_ == now && base_.view().raw() == weight.values.view().raw())
    return inverse_;
  Tensor sum = ops::dequantize(weight, ops::WeightLayout::kInOut).clone();
  add_product(a.values, b.values, scaling, sum);
  Tensor inverse = column_norms(sum);
  {
    const DefaultFloatEnvironment environment;
    for (float& norm : inverse.span<float>()) norm = 1 / norm;
  }
  base_ = weight.values;
  fingerprint_ = now;
  inverse_ = inverse;
  return inverse;
}

}  // namespace gpt::peft
