#include "gpt/ops/activation.h"

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

struct Name {
  Activation activation;
  std::string_view name;
};
// The first name of an activation is the one written to a config.json.
constexpr Name kNames[] = {{Activation::kGeluNew, "gelu_new"},   {Activation::kGeluNew, "gelu_pytorch_tanh"},
                           {Activation::kGelu, "gelu"},          {Activation::kRelu, "relu"},
                           {Activation::kSilu, "silu"},          {Activation::kSilu, "swish"},
                           {Activation::kTanh, "tanh"},          {Activation::kQuickGelu, "quick_gelu"},
                           {Activation::kGeluFast, "gelu_fast"}, {Activation::kNone, "linear"}};

}  // namespace

std::string_view name_of(Activation activation) noexcept {
  for (const Name& n : kNames)
    if (n.activation == activation) return n.name;
  return "invalid";
}

std::optional<Activation> activation_from_name(std::string_view name) noexcept {
  for (const Name& n : kNames)
    if (n.name == name) return n.activation;
  return std::nullopt;
}

std::string activation_names() try {
  std::string list;
  for (const Name& n : kNames) list += concat(list.empty() ? "" : ", ", n.name);
  return list;
} catch (...) {
  rethrow_with_memory_errors("activation");
}

void activation(Activation f, ConstTensorView x, TensorView y) {
  require_dtype("activation", "x", x, DType::f32);
  require_dtype("activation", "y", y, DType::f32);
  require_shape("activation", "y", y, x.shape(), "the shape of x");
  const kernels::KernelTable& table = kernels::table();
  const float* in = x.data<float>();
  float* out = y.data<float>();
  constexpr std::int64_t kWorkPerElement = 16;
  parallel_for(x.numel(), grain_for(kWorkPerElement), [&](std::int64_t begin, std::int64_t end) noexcept {
    table.activation(f, in, out, begin, end);
  });
}

void activation_backward(Activation f, ConstTensorView x, ConstTensorView dy, TensorView dx) {
  constexpr std::string_view op = "activation_backward";
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "dy", dy, DType::f32);
  require_dtype(op, "dx", dx, DType::f32);
  require_shape(op, "dy", dy, x.shape(), "the shape of x");
  require_shape(op, "dx", dx, x.shape(), "the shape of x");
  const kernels::KernelTable& table = kernels::table();
  const float *in = x.data<float>(), *gradient = dy.data<float>();
  float* out = dx.data<float>();
  constexpr std::int64_t kWorkPerElement = 24;
  parallel_for(x.numel(), grain_for(kWorkPerElement), [&](std::int64_t begin, std::int64_t end) noexcept {
    table.activation_backward(f, in, gradient, out, begin, end);
  });
}

}  // namespace gpt::ops
