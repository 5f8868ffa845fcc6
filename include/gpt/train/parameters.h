// The parameters of a network, or of an adapter, that are learned, and their gradients.
#pragma once

#include <cstddef>
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
  TensorView value;     // float32; or bfloat16, what the network computes with
  TensorView gradient;  // float32 of the same shape
  TensorView rest =
      {};  // int16, what a bfloat16 value lacks of the float32 that is learned: see ops::split; else empty
  bool of_objective = false;  // neither the network's nor its adapter's
};

/// The learned parameters of a network with room for their gradients. The network keeps the values: it must stay where it is,
/// outlive this, and not be packed or quantized meanwhile.
class Parameters {
 public:
  /// All parameters, or those for whose names `learns` holds. A network that learns owns its parameters as float32:
  /// float16, bfloat16 and mapped ones are copied first. With a dtype of bf16 it gets them split: the bfloat16 values go to the
  /// network, and the rest stays here, so that it computes in bfloat16 and learns in float32. Throws UnsupportedError for a
  /// packed or quantized network, ShapeError for one without weights, ArgumentError when nothing is to be learned, and for
  /// another dtype; MemoryError; the network then is as it was.
  explicit Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns = {},
                      DType dtype = DType::f32);
  /// Those of an adapter, which must stay where it is and outlive this; the network is not touched. Throws likewise.
  explicit Parameters(nn::Adapter& adapter, DType dtype = DType::f32);
  /// Calls its argument for tensors, as nn::Adapter::visit.
  using Visit = std::function<void(const nn::Adapter::Visitor& f)>;
  /// What is learned in a training: the parameters of the adapter, if one is attached to the network, or else its own, those for whose
  /// names `learns` holds where it is set; and all that `objective` visits, as float32 whatever the dtype. Throws likewise.
  Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns, DType dtype,
             const Visit& objective);
  /// Joins, where there is memory for it; else the network stays in bfloat16.
  ~Parameters();
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  const std::vector<Parameter>& all() const noexcept { return all_; }
  /// Whose they are, where that is an adapter; else null.
  nn::Adapter* adapter() const noexcept { return adapter_; }
  /// All tensors of the adapter, as it is shown them, those that are not learned among them. None without an adapter.
  std::vector<nn::LearnedTensor> learned() const;
  /// Makes the tape add gradients to those here: of all, or of those whose numbers in all() `which` holds for.
  void watch(Tape& tape, const std::function<bool(std::size_t parameter)>& which = {}) const;
  void zero_gradients() noexcept;
  /// Lends the gradients, all of them zero, to the tape until something is added to them: see Tape::lend.
  void lend_gradients(Tape& tape) const;
  /// The L2 norm over all gradients. Throws as ops::sum_of_squares.
  double gradient_norm() const;
  /// Gives the network the float32 values of what was split, one parameter after another: the end of a training. Tapes are
  /// to be made anew. Throws MemoryError, when some parameters may still be split.
  void join();
  /// Exchanges the network's tensors with these, in the order of all(), whose values stay the same memory: for other weights
  /// of the same shapes that the network is to have for a time.
  void exchange(std::vector<Tensor>& tensors) noexcept;

 private:
  void add(const std::string& name, Tensor& tensor, const Shape& shape, DType dtype);
  void take_places();
  TensorView gradients() const noexcept;  // all, and what little lies between them

  nn::Adapter* adapter_ = nullptr;
  std::vector<Parameter> all_;
  std::vector<Tensor*> places_;    // in the network or adapter
  std::vector<Tensor> values_;     // theirs, once all are there
  std::vector<Tensor> gradients_;  // side by side
  std::vector<Tensor> rests_;      // of the split ones; empty for float32
};

}  // namespace gpt
