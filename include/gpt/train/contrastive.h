// Learning to put texts of one class side by side.
#pragma once

#include <memory>

#include "gpt/train/objectives.h"

namespace gpt {

struct ContrastiveOptions {
  double weight = 0.9;       // lambda: the part of the contrastive loss, 0 to 1
  double temperature = 0.3;  // tau, more than 0
};

/// Supervised contrastive learning beside the loss of an objective (Gunel et al., arXiv 2011.01403, equations 1 to 3). With z_i the hidden
/// state that the head is given for sample i of a batch, divided by its norm, and P_i the other samples of the batch with its label:
///   (1 - weight) L + weight sum_i -1 / |P_i| sum_(p in P_i) log(exp(z_i z_p / temperature) / sum_(k != i) exp(z_i z_k / temperature))
/// in double; a sample that is alone with its label has no such term. It is for samples of one label each, a ClassificationObjective of
/// kSingleLabel, say, and sees the samples of one batch, not those that gradients are accumulated over. An evaluation is that of L.
class ContrastiveObjective final : public WrappedObjective {
 public:
  /// Throws ArgumentError for options out of their range.
  explicit ContrastiveObjective(std::shared_ptr<RowObjective> inner, ContrastiveOptions options = {});

  /// Throws ArgumentError for another problem_type.
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;

 private:
  std::shared_ptr<const RowObjective> rows_;
  ContrastiveOptions options_;
};

}  // namespace gpt
