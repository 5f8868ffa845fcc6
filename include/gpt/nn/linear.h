// A dense layer.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/tensor.h"
#include "gpt/nn/module.h"
#include "gpt/ops/linear.h"

namespace gpt::nn {

class Linear {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features, ops::WeightLayout layout, bool has_bias)
      : weight_{.in = in_features, .out = out_features, .layout = layout}, has_bias_(has_bias) {}

  std::int64_t out_features() const noexcept { return weight_.out; }
  const ops::Weight& weight() const noexcept { return weight_; }

  /// y = residual + f(x W + b); x [R, in] and y [R, out] float32 or bfloat16, residual (none when empty) float32 [R, out].
  void forward(Context& context, ConstTensorView x, TensorView y, ops::Activation f = ops::Activation::kNone,
               ConstTensorView residual = {}) const;
  /// y = residual + dropout(x W + b), at the rate resid_pdrop.
  void forward_dropped(Context& context, ConstTensorView x, ConstTensorView residual, TensorView y) const;

  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) {
    visit_parameters(*this, prefix, f);
  }
  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) const {
    visit_parameters(*this, prefix, f);
  }

 private:
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, const std::string& prefix, Visitor& f) {
    visit_matrix(f, prefix + "weight", self.weight_);
    if (self.has_bias_) f(prefix + "bias", self.bias_, Shape{self.weight_.out});
  }

  ops::Weight weight_;
  bool has_bias_;
  Tensor bias_;
};

}  // namespace gpt::nn
