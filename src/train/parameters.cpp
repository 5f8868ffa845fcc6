#include "gpt/train/parameters.h"

#include <cmath>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "gpt/ops/bfloat16.h"
#include "gpt/ops/elementwise.h"
#include "gpt/ops/optimizer.h"
#include "train/zeros_together.h"

namespace gpt {
namespace {

void require_shape(const std::string& name, const Tensor& tensor, const Shape& shape) {
  if (tensor.shape() != shape)
    fail<ShapeError>("train", name, " has shape ", tensor.shape().to_string(), ", expected ",
                     shape.to_string());
}

/// Shows f what is learned. What is not may be a quantized matrix, which has no elements to be shown.
template <class F>
struct LearnedVisitor {
  const std::function<bool(std::string_view name)>& learns;  // unset: all
  F f;

  void operator()(const std::string& name, Tensor& tensor, const Shape& shape) const {
    if (!learns || learns(name)) f(name, tensor, shape);
  }
  void operator()(const std::string& name, ops::Weight& weight) const {
    if (!learns || learns(name)) nn::visit_matrix(f, name, weight);
  }
};
template <class F>
LearnedVisitor(const std::function<bool(std::string_view name)>&, F) -> LearnedVisitor<F>;

}  // namespace

Parameters::Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns,
                       DType dtype) try {
  network.visit(LearnedVisitor{learns, [&](const std::string& name, Tensor& tensor, const Shape& shape) {
                                 require_shape(name, tensor, shape);
                                 add(name, tensor, shape, dtype);
                               }});
  take_places();
} catch (...) {
  rethrow_with_memory_errors("train");
}

Parameters::Parameters(nn::Adapter& adapter, DType dtype) try : adapter_(&adapter) {
  adapter.visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    require_shape(name, tensor, shape);
    add(name, tensor, shape, dtype);
  });
  take_places();
} catch (...) {
  rethrow_with_memory_errors("train");
}

Parameters::Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns, DType dtype,
                       const Visit& objective) try
    : adapter_(network.adapter().get()) {
  const LearnedVisitor add_learned{learns, [&](const std::string& name, Tensor& tensor, const Shape& shape) {
                                     require_shape(name, tensor, shape);
                                     add(name, tensor, shape, dtype);
                                   }};
  if (adapter_ != nullptr)
    adapter_->visit(add_learned);
  else
    network.visit(add_learned);
  if (objective)
    objective([&](const std::string& name, Tensor& tensor, const Shape& shape) {
      require_shape(name, tensor, shape);
      add(name, tensor, shape, DType::f32);
      all_.back().of_objective = true;
    });
  take_places();
} catch (...) {
  rethrow_with_memory_errors("train");
}

void Parameters::add(const std::string& name, Tensor& tensor, const Shape& shape, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16)
    fail<ArgumentError>("train", "weights are to be ", name_of(dtype), ", expected float32 or bfloat16");
  Parameter& p = all_.emplace_back();
  p.name = name;
  rests_.emplace_back();
  if (dtype == DType::bf16) {
    values_.push_back(Tensor::empty(shape, DType::bf16));
    p.rest = rests_.back() = Tensor::empty(shape, DType::i16);
    ops::split(tensor.to(DType::f32), values_.back(), p.rest);
  } else {
    values_.push_back(tensor.dtype() == DType::f32 ? tensor.clone() : tensor.to(DType::f32));
  }
  p.value = values_.back();
  places_.push_back(&tensor);
}

void Parameters::take_places() {
  if (all_.empty()) fail<ArgumentError>("train", "no parameter is to be learned");
  std::vector<Shape> shapes;
  for (const Parameter& p : all_) shapes.push_back(p.value.shape());
  gradients_ = zeros_together(shapes);
  for (std::size_t i = 0; i < places_.size(); ++i) {
    all_[i].gradient = gradients_[i];
    *places_[i] = std::move(values_[i]);
  }
  values_.clear();
}

Parameters::~Parameters() {
  gradients_.clear();  // so that there is room
  try {
    join();
  } catch (const Error&) {
  }
}

void Parameters::join() {
  for (std::size_t i = 0; i < rests_.size(); ++i) {
    Parameter& p = all_[i];
    if (p.rest.raw() == nullptr) continue;  // before a lack of memory
    Tensor whole = Tensor::empty(p.value.shape());
    ops::join(p.value, p.rest, whole);
    p.value = whole;
    p.rest = {};
    *places_[i] = std::move(whole);
    rests_[i] = {};
  }
}

void Parameters::exchange(std::vector<Tensor>& tensors) noexcept {
  for (std::size_t i = 0; i < tensors.size(); ++i) std::swap(*places_[i], tensors[i]);
}

std::vector<nn::LearnedTensor> Parameters::learned() const try {
  std::vector<nn::LearnedTensor> tensors;
  if (adapter_ == nullptr) return tensors;
  auto next = all_.begin();
  adapter_->visit([&](const std::string& name, Tensor& tensor, const Shape&) {
    if (next == all_.end() || next->of_objective || next->name != name) {
      tensors.push_back({tensor.view(), {}, {}});
      return;
    }
    tensors.push_back({next->value, next->gradient, next->rest});
    ++next;
  });
  return tensors;
} catch (...) {
  rethrow_with_memory_errors("train");
}

void Parameters::watch(Tape& tape, const std::function<bool(std::size_t parameter)>& which) const {
  for (std::size_t i = 0; i < all_.size(); ++i)
    if (!which || which(i)) tape.watch(all_[i].value, all_[i].gradient);
}

void Parameters::zero_gradients() noexcept { ops::zero(gradients()); }

void Parameters::lend_gradients(Tape& tape) const { tape.lend(gradients()); }

TensorView Parameters::gradients() const noexcept {
  const TensorView first = all_.front().gradient, last = all_.back().gradient;
  return {first.data<float>(), {last.data<float>() + last.numel() - first.data<float>()}};
}

double Parameters::gradient_norm() const {
  const DefaultFloatEnvironment environment;
  double squares = 0;
  for (const Parameter& p : all_) squares += ops::sum_of_squares(p.gradient);
  return std::sqrt(squares);
}

}  // namespace gpt
