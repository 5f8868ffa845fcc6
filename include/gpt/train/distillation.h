// Learning from a larger model.
#pragma once

#include <string>

#include "gpt/models/gpt2.h"
#include "gpt/train/objectives.h"

namespace gpt {

struct DistillationOptions {
  double alpha = 0.5;        // the part of the teacher's loss; the rest is that of the labels
  double temperature = 2.0;  // of both distributions
};

/// Knowledge distillation (Hinton et al., arXiv 1503.02531, section 2). The loss of a label is, with z the student's logits and y the
/// teacher's,
///   (1 - alpha) (-log softmax(z)[label]) + alpha T^2 KL(softmax(y / T) || softmax(z / T))
/// in double. The teacher sees what the student is fed, without dropout. No logits but those of autograd::kLossRows rows of
/// both are held.
class DistillationObjective final : public Objective {
 public:
  /// The teacher must outlive it, may be packed or quantized, and has the vocabulary of the network that is trained, and positions for its
  /// samples. Throws ArgumentError for alpha outside [0, 1], a temperature that is not above 0.
  explicit DistillationObjective(const Gpt2& teacher, DistillationOptions options = {});

  std::int64_t terms(const Sample& sample) const override;
  std::int64_t fed(std::int64_t ids) const noexcept override { return ids - 1; }
  /// Throws ArgumentError when the vocabularies differ.
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;
  std::string describe() const override;

 private:
  const Gpt2& teacher_;
  DistillationOptions options_;
};

}  // namespace gpt
