// The feed-forward half of a transformer block.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/error.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"

namespace gpt::nn {

class Mlp {
 public:
  /// `layer` is the block it is in.
  Mlp(std::int64_t features, std::int64_t inner, ops::Activation f, std::int64_t layer);

  /// y = residual + c_proj(f(c_fc(x))), all float32 [R, features].
  void forward(Context& context, ConstTensorView x, ConstTensorView residual, TensorView y) const;

  bool keeps_input(const Context& context) const { return c_fc_.keeps_input(context); }

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
    self.c_fc_.visit(concat(prefix, "c_fc."), f);
    self.c_proj_.visit(concat(prefix, "c_proj."), f);
  }

  Linear c_fc_;
  Linear c_proj_;
  ops::Activation activation_;
};

}  // namespace gpt::nn
