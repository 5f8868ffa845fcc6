#include "gpt/train/parameters.h"

#include <cmath>
#include <cstring>

#include "core/float_environment.h"
#include "gpt/core/error.h"
#include "gpt/ops/optimizer.h"

namespace gpt {

Parameters::Parameters(Gpt2& network, const std::function<bool(std::string_view name)>& learns) {
  network.visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    if (tensor.shape() != shape)
      fail<ShapeError>("train", name, " has shape ", tensor.shape().to_string(), ", expected ",
                       shape.to_string());
    if (learns && !learns(name)) return;
    tensor = tensor.dtype() == DType::f32 ? tensor.clone() : tensor.to(DType::f32);
    gradients_.push_back(Tensor::zeros(shape));
    all_.push_back({name, tensor.view(), gradients_.back().view()});
  });
  if (all_.empty()) fail<ArgumentError>("train", "no parameter is to be learned");
}

void Parameters::watch(Tape& tape) const {
  for (const Parameter& p : all_) tape.watch(p.value, p.gradient);
}

void Parameters::zero_gradients() noexcept {
  for (const Parameter& p : all_) std::memset(p.gradient.raw(), 0, p.gradient.nbytes());
}

double Parameters::gradient_norm() const {
  const DefaultFloatEnvironment environment;
  double squares = 0;
  for (const Parameter& p : all_) squares += ops::sum_of_squares(p.gradient);
  return std::sqrt(squares);
}

}  // namespace gpt
