// Layer normalization with a learned scale and shift.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/error.h"
#include "gpt/core/tensor.h"
#include "gpt/nn/module.h"

namespace gpt::nn {

class LayerNorm {
 public:
  /// `id` is how adapters know it.
  LayerNorm(std::int64_t features, float epsilon, NormId id = {}) noexcept
      : features_(features), epsilon_(epsilon), id_(id) {}

  std::int64_t features() const noexcept { return features_; }

  /// Whether its result can be computed again from what it is given: no adapter changes it.
  bool is_repeatable(const Context& context) const noexcept;

  /// x, y float32 [R, features]; y may be x where there is no tape. Rows with an adapter have what that makes of y.
  void forward(Context& context, ConstTensorView x, TensorView y) const;

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
    f(concat(prefix, "weight"), self.weight_, Shape{self.features_});
    f(concat(prefix, "bias"), self.bias_, Shape{self.features_});
  }

  std::int64_t features_;
  float epsilon_;
  NormId id_;
  Tensor weight_;
  Tensor bias_;
};

}  // namespace gpt::nn
