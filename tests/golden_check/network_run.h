// The library's forward pass, run as the expected values want it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/models/gpt2.h"

namespace gpt::golden {

/// The results for a batch of equally long rows. They live in `arena`.
struct BatchRun {
  Arena arena;
  ForwardOutput output;  // all logits, all hidden states
};

/// Virtual tokens that have logits: those of a prompt, which predict something (README 2.6).
std::int64_t shown_virtual_tokens(const Gpt2& network);

/// Runs B rows of T tokens side by side. `ids` holds B * T of them.
BatchRun run_batch(const Gpt2& network, std::span<const TokenId> ids, std::int64_t rows);

/// A sum of -log p and the number of its terms.
struct LossSum {
  double sum = 0;
  std::int64_t count = 0;

  /// NaN when there is no term, as in PyTorch.
  double mean() const { return sum / static_cast<double>(count); }
};

/// The loss of README 2.2: logits float32 [B * T, V], labels [B * T] not shifted, -100 where nothing counts.
LossSum shifted_loss(ConstTensorView logits, std::span<const std::int64_t> labels, std::int64_t rows);

/// log softmax(logits[r])[ids[r]], logits float32 [R, V].
std::vector<double> log_probs(ConstTensorView logits, std::span<const TokenId> ids);

/// The sum of -log p(window[t+1] | window[..t]) over one window of T + 1 tokens.
LossSum window_loss(const Gpt2& network, std::span<const TokenId> window);

}  // namespace gpt::golden
