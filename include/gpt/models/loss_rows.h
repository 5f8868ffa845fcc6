// What losses are made of: rows of hidden states, the head that makes logits of them, and the loss of each row.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/ops/loss.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// A sum of losses, each of one label (-log p of it in nats, unless another loss is asked for), and how many there are.
struct LossSum {
  double sum = 0;
  std::int64_t count = 0;

  /// NaN when there is none, as in PyTorch.
  double mean() const noexcept { return sum / static_cast<double>(count); }
};

/// config.json's problem_type: what the logits mean, and the loss that follows from it.
enum class ProblemType : std::uint8_t {
  kRegression,   // the logits are the numbers themselves; (logit - target)^2
  kSingleLabel,  // one label is right; cross entropy
  kMultiLabel,   // each label is right or not; binary cross entropy of its logit
};

/// A batch of sequences after the network and before the head: what an objective needs that looks at logits or hidden states beside
/// the loss (R-Drop, contrastive). The sequences that it was made from must live as long.
struct LossRows {
  TensorView hidden = {};             // float32 [R, D], of the final layer norm
  const ops::Weight* head = nullptr;  // from D to the logits
  ProblemType type = ProblemType::kSingleLabel;
  std::vector<TokenId> labels = {};      // of the rows; kIgnoredLabel where there is no loss
  ops::RowLoss loss = {};                // LossRow::index counts the rows
  std::int64_t terms = 1;                // of the loss of a row
  std::vector<std::int64_t> begin = {};  // the first row of each sequence, and the end
};

/// The losses of the rows, summed, and on a tape the gradient of scale times that sum: autograd::head_loss. `per_sequence`, unless it is
/// empty, receives the sum of each sequence. Throws as head_loss, ArgumentError for room of another size.
LossSum sum_of_losses(const LossRows& rows, Tape* tape, double scale, Arena& arena,
                      const std::stop_token& stop = {}, std::span<LossSum> per_sequence = {});

}  // namespace gpt
