// The parameters of a network that are learned, and their gradients.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/autograd/tape.h"
#include "gpt/core/tensor.h"
#include "gpt/models/gpt2.h"

namespace gpt {

struct Parameter {
  std::string name;     // as in a checkpoint, without the prefix "transformer."
  TensorView value;     // float32
  TensorView gradient;  // float32 of the same shape
};

/// The learned parameters of a network with room for their gradients. The network keeps the values: it must outlive this, and
/// not be packed or quantized meanwhile.
class Parameters {
 public:
  /// All parameters, or those for whose names `learns` holds. A network that learns owns its parameters as float32:
  /// float16, bfloat16 and mapped ones are copied first. Throws UnsupportedError for a packed or quantized network,
  /// ShapeError for one without weights, ArgumentError when nothing is to be learned, MemoryError.
  explicit Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns = {});

  const std::vector<Parameter>& all() const noexcept { return all_; }
  /// Makes the tape add gradients to those here.
  void watch(Tape& tape) const;
  void zero_gradients() noexcept;
  /// The L2 norm over all gradients. Throws as ops::sum_of_squares.
  double gradient_norm() const;

 private:
  std::vector<Parameter> all_;
  std::vector<Tensor> gradients_;
};

}  // namespace gpt
