// All kernel bodies, for an isa_*.cpp that has included its vec_*.h: everything is in an anonymous namespace, so that code
// compiled with one instruction set's flags can never be linked into another's callers.
#include <cstdint>

#include "kernels/kernels.h"

#include "kernels/elementary.inl"  // first: the others use it

#include "kernels/kv_cache.inl"  // second: attention uses it

#include "kernels/activation.inl"
#include "kernels/attention.inl"
#include "kernels/layer_norm.inl"
#include "kernels/pack_rows.inl"

#include "kernels/linear.inl"
#include "kernels/quantized.inl"

#include "kernels/linear_integer.inl"

#include "kernels/embedding.inl"
#include "kernels/softmax.inl"

namespace gpt::kernels {
namespace {

constexpr KernelTable make_table(const char* name) noexcept {
  return {name,         pack_rows,    linear_tasks,   layer_norm_rows, activation_range,
          softmax_rows, exp_sum_rows, embedding_rows, append_tasks,    attention_tasks};
}

}  // namespace
}  // namespace gpt::kernels
