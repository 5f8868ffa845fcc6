#include "models/non_finite.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "gpt/core/dtype.h"
#include "gpt/core/error.h"
#include "gpt/core/tensor.h"

namespace gpt {
namespace {

// The place in a row-major tensor: "[3, 5]".
std::string place_of(std::int64_t element, const Shape& shape) {
  std::string place = "]";
  for (int i = shape.rank() - 1; i >= 0; --i) {
    place = concat(i > 0 ? ", " : "[", element % shape[i], place);
    element /= shape[i];
  }
  return place;
}

template <class T>
std::string describe_non_finite(std::span<const T> values, const Shape& shape) {
  const auto bad = std::find_if(values.begin(), values.end(),
                                [](T value) { return !std::isfinite(static_cast<float>(value)); });
  if (bad == values.end()) return {};
  return concat(place_of(bad - values.begin(), shape), " is ", static_cast<float>(*bad));
}

std::string describe_non_finite(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::f32: return describe_non_finite(tensor.span<float>(), tensor.shape());
    case DType::f16: return describe_non_finite(tensor.span<Float16>(), tensor.shape());
    case DType::bf16: return describe_non_finite(tensor.span<BFloat16>(), tensor.shape());
    default: return {};
  }
}

struct Finder {
  std::optional<NonFiniteParameter>& found;
  const std::stop_token& stop;

  void operator()(const std::string& name, const Tensor& tensor, const Shape&) const {
    if (found) return;
    throw_if_stopped();
    if (std::string element = describe_non_finite(tensor); !element.empty())
      found = {name, std::move(element)};
  }
  void operator()(const std::string& name, const ops::Weight& weight) const {
    if (found) return;
    throw_if_stopped();
    if (weight.quantized())
      (*this)(name + ".scales", weight.scales, {});
    else
      (*this)(name, ops::unpack(weight, weight.file_layout), {});
  }
  void throw_if_stopped() const {
    if (stop.stop_requested())
      fail<CancelledError>("network", "the search for values that are not finite was cancelled");
  }
};

}  // namespace

std::optional<NonFiniteParameter> find_non_finite(const Gpt2& network, const std::stop_token& stop) {
  std::optional<NonFiniteParameter> found;
  const Finder find{found, stop};
  network.visit(find);
  if (network.adapter() != nullptr) network.adapter()->visit(find);
  return found;
}

std::string non_finite_clause(const Gpt2& network, const std::stop_token& stop) {
  const auto found = find_non_finite(network, stop);
  return found ? concat("; parameter ", found->name, ": element ", found->element) : "";
}

std::optional<NonFiniteParameter> find_non_finite(const nn::Adapter& adapter) {
  std::optional<NonFiniteParameter> found;
  // Shown to be read alone.
  const_cast<nn::Adapter&>(adapter).visit(Finder{found, {}});
  return found;
}

std::optional<NonFiniteParameter> find_non_finite(const std::string& name, const Tensor& tensor) {
  std::string element = describe_non_finite(tensor);
  if (element.empty()) return std::nullopt;
  return NonFiniteParameter{name, std::move(element)};
}

}  // namespace gpt
