// What all modules share. A module holds parameters and computes with ops; visit(prefix, f) shows every
// parameter to f(name, tensor, expected shape), which is how checkpoints are loaded and saved and parameters
// are counted. A visitor that also has f(name, weight) is shown the matrices as ops::Weight, in whatever form they
// are; one that has not sees their elements as a tensor, and can only visit a network whose matrices are plain.
#pragma once

#include <concepts>
#include <stop_token>
#include <string>

#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/ops/weight.h"

namespace gpt::nn {

/// What a forward pass carries through the modules.
struct Context {
  Arena& arena;          // intermediate results
  std::stop_token stop;  // asked between layers
};

/// Shows a matrix to a visitor; Weight is ops::Weight or const ops::Weight.
template <class Visitor, class Weight>
void visit_matrix(Visitor& f, const std::string& name, Weight& weight) {
  if constexpr (std::invocable<Visitor&, const std::string&, Weight&>) {
    f(name, weight);
  } else {
    if (weight.layout == ops::WeightLayout::kPanels)
      fail<UnsupportedError>(name, "the matrix is in ", weight.quantized() ? "quantized " : "",
                             "panels, where its elements cannot be visited");
    f(name, weight.values, weight.file_shape());
  }
}

}  // namespace gpt::nn
