// What all modules share. A module holds parameters and computes with ops; visit(prefix, f) shows every
// parameter to f(name, tensor, expected shape), which is how checkpoints are loaded and saved and parameters
// are counted. A visitor that also has f(name, weight) is shown the matrices as ops::Weight, in whatever form they
// are; one that has not sees their elements as a tensor, and can only visit a network whose matrices are plain.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/nn/adapter.h"
#include "gpt/ops/dropout.h"
#include "gpt/ops/weight.h"

namespace gpt::nn {

/// Sees what a matrix is multiplied by, float32 [R, in], before the product is computed.
using InputObserver = std::function<void(const ops::Weight& weight, ConstTensorView x)>;

/// The dropout of a training pass: its rates, and where the next use takes its random numbers from. Of the 2^32 streams of a
/// pass each use has one for every sequence. Adapters have rates of their own.
struct DropoutState {
  static constexpr std::uint64_t kMostSequences = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kMostUses = (std::uint64_t{1} << 32) / kMostSequences;
  float resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0;
  std::uint64_t seed = 0;
  std::uint64_t next = 0;  // stream
  bool on = false;         // whether the pass has any

  /// For one use with one of the rates.
  ops::Dropout take(float rate) noexcept {
    const ops::Dropout taken{rate, seed, next};
    next += kMostSequences;
    return taken;
  }
};

/// What a forward pass carries through the modules.
struct Context {
  Arena& arena;                               // intermediate results
  std::stop_token stop;                       // asked before every matrix product
  const InputObserver* observer = nullptr;    // told of every matrix product
  Tape* tape = nullptr;                       // records the pass; null in inference
  DropoutState dropout = {};                  // no rates in inference
  DType activations = DType::f32;             // how results inside a block are kept: see ForwardOptions
  std::span<const AdaptedRows> adapted = {};  // in the order of the rows

  std::vector<TensorView>* attentions = nullptr;  // gets the probabilities of each layer, of a batch of one

  /// Room, on a tape, for what no gradient needs, or what is soon computed again: one block after another uses it.
  struct Passing {
    TensorView normal, heads, inner;
  } passing = {};

  /// Room for a result inside a block.
  TensorView take(const Shape& shape) const { return arena.take(shape, activations); }
  /// The same for a result that shares its room with those of other blocks, unless it is kept. Blocks may differ, in their heads:
  /// one whose result is larger than all before makes a room that holds it.
  TensorView take(const Shape& shape, bool is_kept, TensorView& shared) const {
    if (is_kept || tape == nullptr || tape->recomputes()) return take(shape);
    if (shared.raw() == nullptr || shared.numel() < shape.numel()) {
      shared = take(shape);
      tape->pass(shared);
    }
    return {shared.raw(), shared.dtype(), shape};
  }
  void throw_if_stopped() const {
    if (stop.stop_requested()) fail<CancelledError>("forward", "the pass was cancelled");
  }
  void observe(const ops::Weight& weight, ConstTensorView x) const {
    if (observer != nullptr) (*observer)(weight, x);
  }
};

/// Shows a matrix to a visitor; Weight is ops::Weight or const ops::Weight.
template <class Visitor, class Weight>
void visit_matrix(Visitor& f, const std::string& name, Weight& weight) {
  if constexpr (std::invocable<Visitor&, const std::string&, Weight&>) {
    f(name, weight);
  } else {
    if (weight.layout != weight.file_layout)
      fail<UnsupportedError>(name, "the matrix is in ", weight.quantized() ? "quantized " : "",
                             weight.layout == ops::WeightLayout::kPanels ? "panels" : "the layout of GGUF",
                             ", where its elements cannot be visited");
    f(name, weight.values, weight.file_shape());
  }
}

}  // namespace gpt::nn
