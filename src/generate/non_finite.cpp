#include "generate/non_finite.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "gpt/core/dtype.h"
#include "gpt/core/error.h"
#include "gpt/core/tensor.h"

namespace gpt::generate {
namespace {

template <class T>
std::int64_t first_non_finite(std::span<const T> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(static_cast<float>(values[i]))) return static_cast<std::int64_t>(i);
  }
  return -1;
}

std::int64_t first_non_finite(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::f32: return first_non_finite(tensor.span<float>());
    case DType::f16: return first_non_finite(tensor.span<Float16>());
    case DType::bf16: return first_non_finite(tensor.span<BFloat16>());
    default: return -1;
  }
}

// "; parameter wte.weight holds one at element 7", or nothing.
std::string describe_parameters(const Gpt2& network) {
  std::string text;
  struct Visitor {
    std::string& text;
    void operator()(const std::string& name, const Tensor& tensor, const Shape&) const {
      if (!text.empty()) return;
      if (const std::int64_t element = first_non_finite(tensor); element >= 0)
        text = concat("; parameter ", name, " is not finite at element ", element);
    }
    void operator()(const std::string& name, const ops::Weight& weight) const {
      if (!text.empty()) return;
      if (weight.quantized())
        (*this)(name + ".scales", weight.scales, {});
      else
        (*this)(name, ops::unpack(weight, weight.file_layout), {});
    }
  };
  network.visit(Visitor{text});
  return text;
}

}  // namespace

void require_finite_logits(std::span<const float> logits, std::span<const TokenId> history,
                           const Gpt2& network) {
  constexpr float kMax = std::numeric_limits<float>::max();
  bool none_bad = true;
  bool any_finite = false;
  for (const float logit : logits) {
    none_bad &= logit <= kMax;  // false for NaN and infinity
    any_finite |= logit >= -kMax;
  }
  if (none_bad && any_finite) return;
  fail<NumericError>("generate", "the logits at position ", history.size() - 1, " (token id ", history.back(),
                     ") are not finite numbers", describe_parameters(network));
}

}  // namespace gpt::generate
