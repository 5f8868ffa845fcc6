// What the ops share: checks that name the op and the operand, and how finely work is divided.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/core/tensor.h"
#include "kernels/kernels.h"

namespace gpt::ops {

inline void require_dtype(std::string_view op, std::string_view operand, ConstTensorView t, DType expected) {
  if (t.dtype() != expected)
    fail<ShapeError>(op, operand, " is ", name_of(t.dtype()), ", expected ", name_of(expected));
}

inline void require_weight_dtype(std::string_view op, std::string_view operand, ConstTensorView t) {
  if (!is_weight_dtype(t.dtype()))
    fail<ShapeError>(op, operand, " is ", name_of(t.dtype()), ", expected float32, float16 or bfloat16");
}

inline void require_shape(std::string_view op, std::string_view operand, ConstTensorView t,
                          const Shape& expected, std::string_view letters) {
  if (t.shape() != expected)
    fail<ShapeError>(op, operand, " has shape ", t.shape().to_string(), ", expected ", letters, " = ",
                     expected.to_string());
}

inline void require_rank(std::string_view op, std::string_view operand, ConstTensorView t, int rank,
                         std::string_view letters) {
  if (t.shape().rank() != rank)
    fail<ShapeError>(op, operand, " has shape ", t.shape().to_string(), ", expected ", letters);
}

inline void require_elements(std::string_view op, std::string_view operand, ConstTensorView t, std::int64_t n,
                             std::string_view letter) {
  if (t.shape() != Shape{n})
    fail<ShapeError>(op, operand, " has shape ", t.shape().to_string(), ", expected [", letter, "] = [", n,
                     "]");
}

/// How many tasks a thread should get at least, for tasks of so many multiply-adds (or elements) each: fewer are done
/// sooner than another thread is woken. About 10 microseconds of work.
inline std::int64_t grain_for(std::int64_t work_per_task) noexcept {
  constexpr std::int64_t kWorkPerThread = std::int64_t{1} << 18;
  return std::max<std::int64_t>(1, kWorkPerThread / std::max<std::int64_t>(1, work_per_task));
}

/// Runs body(begin, end) over the columns of rows in parallel, cut at multiples of a vector.
template <class Body>
void for_columns(std::int64_t columns, std::int64_t rows, const Body& body) {
  constexpr std::int64_t kTogether = kPanelWidth;
  parallel_for((columns + kTogether - 1) / kTogether, grain_for(2 * kTogether * rows),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 body(begin * kTogether, std::min(end * kTogether, columns));
               });
}

/// Elements a thread takes at once: whole vectors.
inline constexpr std::int64_t kElementsTogether = 4096;

/// Runs body(begin, end) over all elements, `work` multiply-adds for each.
template <class Body>
void for_elements(std::int64_t n, std::int64_t work, const Body& body) {
  parallel_for((n + kElementsTogether - 1) / kElementsTogether, grain_for(work * kElementsTogether),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 body(begin * kElementsTogether, std::min(end * kElementsTogether, n));
               },
               Sharing::kStretches);
}

/// The bits of a bfloat16 tensor.
template <class Byte>
auto* bf16_bits(BasicTensorView<Byte> t) noexcept {
  return reinterpret_cast<typename BasicTensorView<Byte>::template Like<std::uint16_t>*>(t.raw());
}

/// Both halves of numbers as ops::split leaves them, of the shape of the whole. A kernel that only reads them may be given
/// views that only read.
inline kernels::SplitFloats split_floats(std::string_view op, ConstTensorView value, ConstTensorView rest,
                                         const Shape& shape) {
  require_dtype(op, "value", value, DType::bf16);
  require_dtype(op, "rest", rest, DType::i16);
  require_shape(op, "value", value, shape, "the shape of the whole");
  require_shape(op, "rest", rest, shape, "the shape of the whole");
  return {const_cast<std::uint16_t*>(bf16_bits(value)), const_cast<std::int16_t*>(rest.data<std::int16_t>())};
}

inline kernels::Matrix matrix(const Weight& w) {
  kernels::Matrix m;
  m.weight = w.values.view().raw();
  m.format = w.format();
  m.layout = w.layout;
  m.k = w.in;
  m.n = w.out;
  if (w.quantized()) {
    m.scales = {w.scales.view().raw(), w.scales.dtype()};
    m.zero_points = w.zero_points.empty() ? nullptr : w.zero_points.data<std::uint8_t>();
    m.group_size = w.group_size;
  }
  return m;
}

inline kernels::Weights weights(ConstTensorView t) noexcept { return {t.raw(), t.dtype()}; }

}  // namespace gpt::ops
