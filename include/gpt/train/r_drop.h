// Learning to say the same whatever dropout leaves out.
#pragma once

#include <memory>

#include "gpt/train/objectives.h"

namespace gpt {

/// R-Drop (Liang et al., arXiv 2106.14448). Each sample is fed twice, with dropout of its own each time. With L the loss of a row of
/// logits of the inner objective, and P1, P2 what the two rows say, the loss of a row is
///   (L1 + L2) / 2 + alpha (D(P1 || P2) + D(P2 || P1)) / 2
/// where D is the Kullback-Leibler divergence of the softmax for kSingleLabel (a language model is of that type), its sum over the labels
/// for kMultiLabel, and (z1 - z2)^2, summed, for kRegression. Rows with a label count. Where nothing is
/// dropped the two are equal, and the inner loss is left. An evaluation is that of the inner objective. No
/// logits but those of autograd::kLossRows rows are held.
class RDropObjective final : public WrappedObjective {
 public:
  /// Throws ArgumentError for an alpha that is negative or not finite.
  explicit RDropObjective(std::shared_ptr<RowObjective> inner, double alpha = 1.0);

  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;

 private:
  std::shared_ptr<const RowObjective> rows_;
  double alpha_;
};

}  // namespace gpt
