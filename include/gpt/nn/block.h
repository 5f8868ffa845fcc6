// A transformer block with layer norms before its two halves.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "gpt/core/error.h"
#include "gpt/nn/attention.h"
#include "gpt/nn/layer_norm.h"
#include "gpt/nn/mlp.h"
#include "gpt/nn/module.h"

namespace gpt::nn {

class Block {
 public:
  Block(LayerNorm ln_1, Attention attn, LayerNorm ln_2, Mlp mlp);

  /// h = x + attn(ln_1(x)), y = h + mlp(ln_2(h)); x, y float32 [R, features].
  void forward(Context& context, ConstTensorView x, std::span<const Segment> batch, TensorView y) const;

  /// The same of the last row of each segment alone, y [batch.size(), features], with `adapted` as their adapters; or, where y is
  /// empty, of none: then only keys and values are put into the caches. For the last block of a network, in inference in float32.
  void forward_last(Context& context, ConstTensorView x, std::span<const Segment> batch,
                    std::span<const AdaptedRows> adapted, TensorView y) const;

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
    self.ln_1_.visit(concat(prefix, "ln_1."), f);
    self.attn_.visit(concat(prefix, "attn."), f);
    self.ln_2_.visit(concat(prefix, "ln_2."), f);
    self.mlp_.visit(concat(prefix, "mlp."), f);
  }

  LayerNorm ln_1_;
  Attention attn_;
  LayerNorm ln_2_;
  Mlp mlp_;
};

}  // namespace gpt::nn
