// All kernel bodies, for an isa_*.cpp that has included its vec_*.h (of AVX-512 fours_avx512.h): everything is in an anonymous
// namespace, so that code compiled with one instruction set's flags can never be linked into another's callers.
#include <cstdint>

#include "kernels/kernels.h"

#include "kernels/elementary.inl"  // first: the others use these
#include "kernels/register_tile.inl"

#include "kernels/dropout.inl"  // second: attention uses these
#include "kernels/kv_cache.inl"

#include "kernels/activation.inl"
#include "kernels/activation_range.inl"
#include "kernels/attention.inl"
#include "kernels/layer_norm.inl"
#include "kernels/pack_rows.inl"

#include "kernels/linear_blocks.inl"
#include "kernels/linear_finish.inl"
#include "kernels/panel_source.inl"
#include "kernels/quanta.inl"

#include "kernels/linear_many.inl"

#include "kernels/int4_fours.inl"
#include "kernels/int8_pairs.inl"
#include "kernels/linear.inl"

#include "kernels/linear_integer.inl"
#include "kernels/quantized.inl"

#include "kernels/attention_backward.inl"
#include "kernels/bfloat16.inl"
#include "kernels/embedding.inl"
#include "kernels/softmax.inl"
#include "kernels/training.inl"

namespace gpt::kernels {
namespace {

constexpr KernelTable make_table(const char* name) noexcept {
  return {.name = name,
          .integer = make_integer_kernels(name),
          .streams = linear_streams,
          .widen_panels = widen_panels,
          .linear = linear_float,
          .layer_norm = layer_norm_rows,
          .layer_norm_backward = layer_norm_backward_rows,
          .layer_norm_parameters = layer_norm_parameter_columns,
          .activation = activation_range,
          .activation_backward = activation_backward_range,
          .softmax = softmax_rows,
          .exp_sum = exp_sum_rows,
          .embedding = embedding_rows,
          .append = append_tasks,
          .attention = attention_tasks,
          .attention_backward = attention_backward_heads,
          .dropout = dropout_range,
          .embedding_backward = embedding_backward_columns,
          .cross_entropy = cross_entropy_row,
          .transpose = transpose_rows_to_columns,
          .add_column_sums = add_column_sums,
          .add = add_range,
          .sum_of_squares = sum_of_squares,
          .round = round_range,
          .widen = widen_range,
          .split = split_range,
          .join = join_range,
          .average = average_range,
          .adamw = adamw_range};
}

}  // namespace
}  // namespace gpt::kernels
