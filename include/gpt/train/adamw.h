// AdamW (Loshchilov, Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/train/parameters.h"

namespace gpt {

/// torch.optim.AdamW's names; the defaults are those of transformers' Trainer.
struct AdamWOptions {
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.0;  // of matrices; never of biases and layer norms
};

/// Throws ArgumentError naming an option out of its range.
void check(const AdamWOptions& options);

/// What is different for one parameter.
struct PartOfStep {
  double learning_rate_factor = 1;
  /// So many updates come before its first one: until then it keeps its bits, and its moments begin with that.
  std::int64_t first_step = 0;
};

/// The optimizer and its state: first and second moments of every parameter, float32.
class AdamW {
 public:
  /// The parameters must outlive it. Throws ArgumentError naming an option out of its range, MemoryError.
  AdamW(const Parameters& parameters, const AdamWOptions& options = {});

  /// One update with the gradients as they are, multiplied by gradient_scale. ops/optimizer.h gives the arithmetic. `parts`: one for each
  /// parameter, or none. Throws ArgumentError for another number of them.
  void step(double learning_rate, double gradient_scale = 1.0, std::span<const PartOfStep> parts = {});

  /// Updates so far.
  std::int64_t steps() const noexcept { return steps_; }
  void set_steps(std::int64_t steps) noexcept { steps_ = steps; }
  /// The moments, in the order of the parameters; for checkpoints.
  std::vector<Tensor>& first_moments() noexcept { return m_; }
  std::vector<Tensor>& second_moments() noexcept { return v_; }

 private:
  const Parameters& parameters_;
  AdamWOptions options_;
  std::int64_t steps_ = 0;
  std::vector<Tensor> m_, v_;
};

/// What clipping to max_norm multiplies gradients of norm `norm` by, as torch.nn.utils.clip_grad_norm_: min(1, max_norm /
/// (norm + 1e-6)); 1 for max_norm = 0, which means no clipping.
double clip_factor(double norm, double max_norm) noexcept;

}  // namespace gpt
