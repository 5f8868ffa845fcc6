// What the matrices of a network are multiplied by, over a text: the weight that errors in them have.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// The mean squares of the inputs of every matrix.
class InputSquares {
 public:
  /// Runs the network over a text, cut into sequences of n_positions. `on_tokens` is told how many of them are done. Throws as
  /// Gpt2::forward.
  static InputSquares over(const Gpt2& network, std::span<const TokenId> text, const std::stop_token& stop,
                           const std::function<void(std::int64_t done)>& on_tokens = {});

  /// One for each input; empty for a matrix that was never used.
  std::vector<float> means(const ops::Weight& weight) const;

 private:
  void add(const ops::Weight& weight, ConstTensorView x);

  struct Sums {
    std::vector<double> squares;
    std::int64_t rows = 0;
  };
  std::map<const ops::Weight*, Sums> sums_;
};

}  // namespace gpt
