// A dense layer.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/error.h"
#include "gpt/core/tensor.h"
#include "gpt/nn/module.h"
#include "gpt/ops/linear.h"

namespace gpt::nn {

class Linear {
 public:
  /// `id` is how adapters know it.
  Linear(std::int64_t in_features, std::int64_t out_features, ops::WeightLayout layout, bool has_bias,
         LinearId id = {})
      : weight_{.in = in_features, .out = out_features, .layout = layout}, has_bias_(has_bias), id_(id) {}

  std::int64_t out_features() const noexcept { return weight_.out; }
  const ops::Weight& weight() const noexcept { return weight_; }
  ConstTensorView bias() const noexcept { return has_bias_ ? bias_.view() : ConstTensorView(); }

  /// Whether a gradient needs what the layer is given.
  bool keeps_input(const Context& context) const {
    return context.tape != nullptr && (context.tape->wants(weight_.values) || is_adapted(context));
  }

  /// y = residual + f(x W + b), where rows with an adapter have what that makes of x and x W + b; x [R, in] and y [R, out] float32 or bfloat16, residual (none when empty) float32 [R, out].
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
  bool is_adapted(const Context& context) const noexcept;
  void forward_adapted(Context& context, ConstTensorView x, TensorView y, ops::Activation f,
                       ConstTensorView residual) const;
  ConstTensorView adapted_input(Context& context, ConstTensorView x) const;

  template <class Self, class Visitor>
  static void visit_parameters(Self& self, const std::string& prefix, Visitor& f) {
    visit_matrix(f, concat(prefix, "weight"), self.weight_);
    if (self.has_bias_) f(concat(prefix, "bias"), self.bias_, Shape{self.weight_.out});
  }

  ops::Weight weight_;
  bool has_bias_;
  LinearId id_;
  Tensor bias_;
};

}  // namespace gpt::nn
