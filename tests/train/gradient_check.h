// Whether an objective's gradients are those of its loss.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gpt/train/objectives.h"
#include "gpt/train/parameters.h"

namespace gpt::test {

/// The loss of a training pass, and the gradients of all that is learned in it, one after another.
struct LossAndGradients {
  double loss = 0;
  std::vector<float> gradients;
};

inline LossAndGradients run_on_tape(Gpt2& network, Objective& objective, std::span<const Sample> samples,
                                    const Parameters& parameters, ObjectiveOptions options = {}) {
  Tape tape;
  parameters.watch(tape);
  Arena arena;
  options.tape = &tape;
  LossAndGradients result;
  result.loss = objective.loss(network, samples, arena, options).sum;
  tape.backward();
  objective.add_penalty(parameters);
  for (const Parameter& p : parameters.all())
    result.gradients.insert(result.gradients.end(), p.gradient.data<float>(),
                            p.gradient.data<float>() + p.gradient.numel());
  return result;
}

/// Goes a small step along the gradient and back: the loss then differs by twice the step times the gradient's norm. A step changes a loss
/// of about 10 by about 1e-2, of which float32 keeps some 1e-3; the third derivatives are left out.
inline void expect_gradient_of_loss(Gpt2& network, Objective& objective, std::span<const Sample> samples,
                                    const ObjectiveOptions& options = {}) {
  Parameters parameters(network, {}, DType::f32, [&](const nn::Adapter::Visitor& f) { objective.visit(f); });
  parameters.zero_gradients();
  const std::vector<float> gradients =
      run_on_tape(network, objective, samples, parameters, options).gradients;
  double squares = 0;
  for (const float g : gradients) squares += static_cast<double>(g) * static_cast<double>(g);
  const double norm = std::sqrt(squares), step = 5e-3;
  ASSERT_GT(norm, 0);
  const auto loss_after = [&](double length) {
    std::size_t next = 0;
    for (const Parameter& p : parameters.all()) {
      TensorView value = p.value;
      for (std::int64_t i = 0; i < value.numel(); ++i)
        value.data<float>()[i] += static_cast<float>(length * static_cast<double>(gradients[next++]) / norm);
    }
    return run_on_tape(network, objective, samples, parameters, options).loss;
  };
  const double ahead = loss_after(step), behind = loss_after(-2 * step);
  EXPECT_NEAR((ahead - behind) / (2 * step), norm, 1e-2 * norm);
}

}  // namespace gpt::test
