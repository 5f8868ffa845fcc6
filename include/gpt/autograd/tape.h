// Reverse-mode differentiation of first order: a list of the operations of one forward pass, replayed backwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <new>
#include <stop_token>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/tensor.h"

namespace gpt {

/// Records what gradients flow through. Tensors are known by their address: until backward() ends, a float32 tensor of the pass
/// has memory of its own, and keeps what is there. A result may take the place of an input that no operation needs on the way back;
/// and see pass(). Not thread-safe.
///
///   Tape tape;
///   tape.watch(weight, weight_gradient);   // gradients of parameters are added to what is there
///   ... a forward pass with this tape ...
///   tape.seed(loss_input, gradient);
///   tape.backward();
class Tape {
 public:
  /// What an operation does when the gradient dy of its result is complete. dy may be overwritten.
  using Backward = std::function<void(Tape& tape, TensorView dy)>;
  /// What computes a result once more.
  using Recomputation = std::function<void(Arena& scratch)>;

  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// From now on gradients of `parameter` are added to `gradient`, float32 of the same shape. Throws ShapeError.
  void watch(ConstTensorView parameter, TensorView gradient);

  /// Whether a gradient with respect to x is of use: a watched parameter, or the result of an operation that has one.
  bool wants(ConstTensorView x) const { return wanted_.contains(x.raw()); }
  /// Where the gradient of a watched parameter is summed; empty for another tensor.
  TensorView gradient_of(ConstTensorView parameter) const;

  /// Records an operation, unless no gradient with respect to any input is wanted: `backward` is a Backward.
  template <class F>
  void record(std::initializer_list<ConstTensorView> inputs, ConstTensorView output, F backward) {
    const std::size_t step = steps_.size();
    if (begin_step(inputs, output)) add_step(output, made<Backward>(std::move(backward)));
    if (passing_.contains(output.raw())) add_passing(inputs, output, step);
  }

  /// Records that the gradient of x, when it is complete, is added to `gradient`, float32 of the same shape, and flows on: to what x
  /// was made from, where that is wanted. Unlike watch(), for this pass alone. Throws ShapeError.
  void observe(ConstTensorView x, TensorView gradient);

  /// Records a part of the pass whose intermediate results are not kept: `again` computes y from the same inputs once more, to
  /// the same bits, now recording on this tape, in memory that lasts until the part is replayed. Throws
  /// UnsupportedError inside another part, when backward() reaches it.
  void record_recomputed(ConstTensorView y, std::function<TensorView(Arena& memory)> again);

  /// Says that y is in memory which other results of the pass take later, each when no operation uses the one before any more.
  /// Where a gradient needs what such a result was, it is computed again. Not for what record_recomputed() computes.
  void pass(ConstTensorView y);
  /// For an operation, right after record(): `again`, a Recomputation, computes the elements of its result y once more, to the
  /// same bits, from what lasts. Does nothing unless y passes. Throws UnsupportedError when y was not the last to be recorded.
  template <class F>
  void record_again(ConstTensorView y, F again) {
    if (passing_.contains(y.raw())) last_passing(y).compute = made<Recomputation>(std::move(again));
  }
  /// Whether a part is being recomputed.
  bool recomputes() const noexcept { return recomputing_; }

  /// Lends zeros, float32 [N], to operations that run before gradients flow, and that leave zeros there: where gradients of
  /// parameters are to be summed, say. Ends when backward() begins. Throws ShapeError for another type.
  void lend(TensorView zeros);

  /// Makes a copy of `gradient` (or adds it to) the gradient of y: where backward() begins. Throws ShapeError, MemoryError.
  void seed(ConstTensorView y, ConstTensorView gradient);

  /// Replays all operations, the last one first, and forgets them. Throws what they throw, and CancelledError when `stop` was
  /// requested before one of them; forgets them then, too: gradients of parameters hold a part.
  void backward(const std::stop_token& stop = {});

  /// Forgets all operations and gradients of intermediate results, those of a forward pass that threw, say; keeps the watched
  /// parameters and the memory.
  void clear();

  /// For an operation while it runs: elements that are lent, which it gives back as zeros. One at a time.
  class Loan {
   public:
    /// Room for `shape`; none where so much is not lent, or there is no tape. The operation adds to `written`, a gradient: nothing
    /// of it is lent from now on.
    Loan(Tape* tape, const Shape& shape, TensorView written) noexcept;
    ~Loan();
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    TensorView view() const noexcept { return view_; }

   private:
    Tape* tape_;
    TensorView lent_, view_;
  };

  // For the operations, while they are replayed:

  /// The gradient of x, and whether it already has a value, to which another is to be added.
  struct Target {
    TensorView view;
    bool add = false;
  };
  Target target(ConstTensorView x);
  /// Makes dy, or adds it to, the gradient of x; the last use of dy, which is the one that the operation was given.
  void give(ConstTensorView x, TensorView dy);
  /// x, an input or the result, whose elements are as they were in the forward pass: one that passes is computed again, and so
  /// the result is where the operation has not taken an input's place. Throws UnsupportedError where the operation that made x
  /// has not recorded how.
  ConstTensorView value_of(ConstTensorView x);
  /// For intermediate results of a backward.
  Arena& scratch() noexcept { return scratch_; }

 private:
  struct Step {
    const std::byte* output;
    Backward backward;
  };
  /// How to compute what passes.
  struct Again {
    const std::byte* y;
    std::size_t step;       // the first that may use y: the one that made it, unless in the place of an input
    Recomputation compute;  // empty where nobody has said how
    bool is_done = false;
  };

  template <class Function, class F>
  static Function made(F f) {
    try {
      return Function(std::move(f));
    } catch (const std::bad_alloc&) {
      fail<MemoryError>("tape", "out of memory");
    }
  }
  bool begin_step(std::initializer_list<ConstTensorView> inputs,
                  ConstTensorView output);  // whether it is wanted
  void add_step(ConstTensorView output, Backward backward);
  Again& last_passing(ConstTensorView y);
  void add_passing(std::initializer_list<ConstTensorView> inputs, ConstTensorView output, std::size_t step);

  void replay(const std::stop_token& stop);
  void forget() noexcept;  // clear(), but for the memory

  TensorView take(const Shape& shape);
  void release(TensorView gradient);

  std::unordered_map<const std::byte*, TensorView> parameters_;
  std::unordered_set<const std::byte*> wanted_;
  std::unordered_map<const std::byte*, TensorView> gradients_;
  std::unordered_map<const std::byte*, std::int64_t> rooms_;  // of memory_, and their elements
  std::multimap<std::int64_t, float*> free_;                  // those that no gradient is in
  TensorView lent_ = {};
  std::vector<Step> steps_;
  std::unordered_set<const std::byte*> passing_;
  std::vector<Again> again_;  // in the order of their steps
  bool recomputing_ = false;
  bool given_ = false;  // the gradient of the step that is replayed lives on as another one
  Arena memory_;        // of gradients
  Arena scratch_;
  Arena recomputed_;  // of the part that is replayed
};

}  // namespace gpt
