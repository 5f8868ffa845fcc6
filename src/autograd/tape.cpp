#include "gpt/autograd/tape.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/ops/elementwise.h"

namespace gpt {
namespace {

void require_like(std::string_view what, ConstTensorView x, ConstTensorView gradient) {
  if (gradient.dtype() != DType::f32 || gradient.shape() != x.shape())
    fail<ShapeError>("tape", what, " is ", name_of(gradient.dtype()), " ", gradient.shape().to_string(),
                     ", expected float32 ", x.shape().to_string());
}

}  // namespace

void Tape::watch(ConstTensorView parameter, TensorView gradient) try {
  require_like("a parameter's gradient", parameter, gradient);
  parameters_[parameter.raw()] = gradient;
  wanted_.insert(parameter.raw());
} catch (...) {
  rethrow_with_memory_errors("tape");
}

TensorView Tape::gradient_of(ConstTensorView parameter) const {
  const auto found = parameters_.find(parameter.raw());
  return found == parameters_.end() ? TensorView() : found->second;
}

bool Tape::begin_step(std::initializer_list<ConstTensorView> inputs, ConstTensorView output) try {
  if (std::none_of(inputs.begin(), inputs.end(), [this](ConstTensorView x) { return wants(x); }))
    return false;
  wanted_.insert(output.raw());
  return true;
} catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::add_step(ConstTensorView output, Backward backward) try {
  steps_.push_back({output.raw(), std::move(backward)});
} catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::pass(ConstTensorView y) try { passing_.insert(y.raw()); } catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::add_passing(std::initializer_list<ConstTensorView> inputs, ConstTensorView output,
                       std::size_t step) try {
  const bool in_place =
      std::any_of(inputs.begin(), inputs.end(), [&](ConstTensorView x) { return x.raw() == output.raw(); });
  again_.push_back({output.raw(), in_place ? steps_.size() : step, {}});
} catch (...) {
  rethrow_with_memory_errors("tape");
}

Tape::Again& Tape::last_passing(ConstTensorView y) {
  if (again_.empty() || again_.back().y != y.raw())
    fail<UnsupportedError>("tape", "how a result ", y.shape().to_string(),
                           " is computed again is recorded, but it was not the last that was recorded");
  return again_.back();
}

void Tape::observe(ConstTensorView x, TensorView gradient) try {
  require_like("an observed gradient", x, gradient);
  wanted_.insert(x.raw());
  // Replayed before what made x, which then finds the gradient again.
  steps_.push_back({x.raw(), [x, gradient](Tape& tape, TensorView dy) {
                      ops::add(dy, gradient);
                      tape.give(x, dy);
                    }});
} catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::record_recomputed(ConstTensorView y, std::function<TensorView(Arena& memory)> again) try {
  if (recomputing_)
    fail<UnsupportedError>("tape", "a part to be recomputed inside another one, expected parts side by side");
  wanted_.insert(y.raw());
  steps_.push_back({y.raw(), [again = std::move(again)](Tape& tape, TensorView dy) {
                      tape.recomputed_.reset();
                      // Its steps are now the last of the tape, and with dy the next to be replayed.
                      tape.recomputing_ = true;
                      const TensorView result = again(tape.recomputed_);
                      tape.recomputing_ = false;
                      tape.give(result, dy);
                    }});
} catch (...) {
  rethrow_with_memory_errors("tape");
}

ConstTensorView Tape::value_of(ConstTensorView x) {
  if (!passing_.contains(x.raw())) return x;
  const auto last =
      std::find_if(again_.rbegin(), again_.rend(), [x](const Again& a) { return a.y == x.raw(); });
  if (last == again_.rend() || !last->compute)
    fail<UnsupportedError>("tape", "a gradient needs a result ", x.shape().to_string(),
                           " that did not last, and that no operation computes again");
  if (!std::exchange(last->is_done, true)) last->compute(scratch_);
  return x;
}

void Tape::lend(TensorView zeros) {
  if (zeros.dtype() != DType::f32)
    fail<ShapeError>("tape", name_of(zeros.dtype()), " is lent, expected float32");
  lent_ = zeros;
}

void Tape::seed(ConstTensorView y, ConstTensorView gradient) try {
  require_like("a seed", y, gradient);
  if (!wants(y)) return;
  if (const Target there = target(y); there.add)
    ops::add(gradient, there.view);
  else
    std::memcpy(there.view.raw(), gradient.raw(), gradient.nbytes());
} catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::backward(const std::stop_token& stop) {
  try {
    replay(stop);
  } catch (...) {
    forget();
    rethrow_with_memory_errors("tape");
  }
  clear();
}

void Tape::replay(const std::stop_token& stop) {
  lent_ = {};
  while (!steps_.empty()) {
    if (stop.stop_requested()) fail<CancelledError>("tape", "the backward pass was cancelled");
    const Step step = std::move(steps_.back());
    steps_.pop_back();
    while (!again_.empty() && again_.back().step > steps_.size()) again_.pop_back();
    const auto found = gradients_.find(step.output);
    if (found == gradients_.end()) continue;  // nothing that was seeded depends on it
    const TensorView dy = found->second;
    gradients_.erase(found);
    given_ = false;
    step.backward(*this, dy);
    if (!given_) release(dy);
  }
}

void Tape::clear() {
  forget();
  memory_.reset();
  rooms_.clear();
}

void Tape::forget() noexcept {
  steps_.clear();
  recomputing_ = false;
  gradients_.clear();
  passing_.clear();
  again_.clear();
  lent_ = {};
  std::erase_if(wanted_, [this](const std::byte* output) { return !parameters_.contains(output); });
  free_.clear();
}

Tape::Target Tape::target(ConstTensorView x) try {
  if (const TensorView sum = gradient_of(x); sum.raw() != nullptr) return {sum, true};
  const auto found = gradients_.find(x.raw());
  if (found != gradients_.end()) return {found->second, true};
  const TensorView fresh = take(x.shape());
  gradients_.emplace(x.raw(), fresh);
  return {fresh, false};
} catch (...) {
  rethrow_with_memory_errors("tape");
}

void Tape::give(ConstTensorView x, TensorView dy) try {
  if (!wants(x)) return;
  if (const TensorView sum = gradient_of(x); sum.raw() != nullptr) return ops::add(dy, sum);
  const auto [there, fresh] = gradients_.emplace(x.raw(), dy);
  if (fresh)
    given_ = true;
  else
    ops::add(dy, there->second);
} catch (...) {
  rethrow_with_memory_errors("tape");
}

TensorView Tape::take(const Shape& shape) {
  const auto smallest = free_.lower_bound(shape.numel());
  if (smallest == free_.end()) {
    const TensorView fresh = memory_.take(shape);
    rooms_.emplace(fresh.raw(), shape.numel());
    return fresh;
  }
  const TensorView reused(smallest->second, shape);
  free_.erase(smallest);
  return reused;
}

void Tape::release(TensorView gradient) {
  const auto room = rooms_.find(gradient.raw());
  if (room != rooms_.end()) free_.emplace(room->second, gradient.data<float>());
}

Tape::Loan::Loan(Tape* tape, const Shape& shape, TensorView written) noexcept : tape_(tape) {
  if (tape == nullptr) return;
  const TensorView lent = std::exchange(tape->lent_, {});
  float *first = lent.data<float>(), *last = first + lent.numel();
  if (written.raw() != nullptr) {  // the longer part beside it
    const auto within = [first, last](float* p) { return std::clamp(p, first, last, std::less<>()); };
    float *const begin = within(written.data<float>()), *const end =
                                                            within(written.data<float>() + written.numel());
    if (begin - first > last - end)
      last = begin;
    else
      first = end;
  }
  lent_ = {first, {last - first}};
  if (shape.numel() <= last - first) view_ = {first, shape};
}

Tape::Loan::~Loan() {
  if (tape_ == nullptr) return;
  ops::zero(view_);
  tape_->lent_ = lent_;
}

}  // namespace gpt
