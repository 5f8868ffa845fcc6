// Elementwise activation functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// The activations a GPT-2 config.json may name. Formulas as in transformers' ACT2FN:
///   kGeluNew     "gelu_new", "gelu_pytorch_tanh"   0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
///   kGelu        "gelu"         0.5 x (1 + erf(x / sqrt 2))
///   kRelu        "relu"         max(x, 0)
///   kSilu        "silu", "swish"   x / (1 + e^-x)
///   kTanh        "tanh"
///   kQuickGelu   "quick_gelu"   x / (1 + e^(-1.702 x))
///   kGeluFast    "gelu_fast"    0.5 x (1 + tanh(0.7978845608 x (1 + 0.044715 x^2)))
enum class Activation : std::uint8_t { kNone, kGeluNew, kGelu, kRelu, kSilu, kTanh, kQuickGelu, kGeluFast };

/// The name in config.json, and back; empty for a name that is not known.
std::string_view name_of(Activation activation) noexcept;
std::optional<Activation> activation_from_name(std::string_view name) noexcept;
/// Every name that is known, for messages: "gelu_new, gelu_pytorch_tanh, gelu, ...".
std::string activation_names();

/// y = f(x), float32, any shape; y may be x. Throws ShapeError when the shapes differ.
void activation(Activation f, ConstTensorView x, TensorView y);

/// dx = dy f'(x), float32, all of one shape; dx may be dy or x. f' of kRelu at 0 is 0. Throws ShapeError.
void activation_backward(Activation f, ConstTensorView x, ConstTensorView dy, TensorView dx);

}  // namespace gpt::ops
