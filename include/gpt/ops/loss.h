// Losses of rows of logits.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"

namespace gpt::ops {

/// A row of logits, and what its loss may depend on.
struct LossRow {
  std::span<float> logits;  // V
  TokenId label = 0;        // in [0, V)
  std::int64_t index =
      0;  // of the row among the labels, for a loss that knows more of it: what a teacher says
  float scale = 1;
};

/// The loss of one row, for any use: returns it, and leaves scale times its gradient in the place of the logits. Called for
/// many rows at once, on several threads, in the default floating-point environment; to keep the law of one
/// arithmetic, it depends on the row alone.
using RowLoss = std::function<double(const LossRow& row)>;

/// -log p(label) in nats, or with label_smoothing_factor e (Szegedy et al., arXiv 1512.00567, section 7; transformers'
/// LabelSmoother) (1 - e) (-log p(label)) + e times the mean of -log p(c) over the vocabulary, where p = softmax(logits):
///   gradient_c = p_c - e / V - (1 - e) [c = label]
class CrossEntropy {
 public:
  /// Throws ArgumentError for a factor outside [0, 1].
  explicit CrossEntropy(double label_smoothing_factor = 0);
  double operator()(const LossRow& row) const;

 private:
  double smoothing_;
};

/// losses[rows[i]] = loss(logits[i], labels[rows[i]]), and the logits become the gradient of scale times the losses' sum:
///   logits  float32 [R, V]
///   rows    R ascending numbers, each that of a label and of a loss
/// Throws ShapeError, ArgumentError (no loss, a row without a label or a label outside [0, V)), and what the loss throws:
/// of the smallest i, after all rows were tried.
void row_losses(const RowLoss& loss, TensorView logits, std::span<const std::int64_t> rows,
                std::span<const TokenId> labels, float scale, std::span<double> losses);

}  // namespace gpt::ops
