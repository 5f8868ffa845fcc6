// Weight matrices, in the forms that ops::linear and ops::embedding read.
#pragma once

#include <cstdint>
#include <string_view>

#include "gpt/core/tensor.h"

namespace gpt::ops {

/// How a weight matrix of K inputs and N outputs lies in memory.
enum class WeightLayout : std::uint8_t {
  kInOut,   // [K, N]: Hugging Face's Conv1D, y = x W
  kOutIn,   // [N, K]: torch's Linear and a tied embedding, y = x W^T
  kPanels,  // as the kernels stream it: panels of 16 outputs, see Weight
};

/// What the elements of a weight matrix are.
enum class WeightFormat : std::uint8_t { f32, f16, bf16, int8, int4 };

/// "float32", "float16", "bfloat16", "int8", "int4"
std::string_view name_of(WeightFormat format) noexcept;

/// Outputs in a panel: the lanes of the kernels' vector.
inline constexpr std::int64_t kPanelWidth = 16;
/// The inputs of a quantized matrix are padded with zeros to a multiple of this.
inline constexpr std::int64_t kQuantizedStep = 8;

/// How a matrix is quantized. w = scale (q - zero), scale and zero shared by a group of inputs of one output.
struct QuantizationFormat {
  WeightFormat format = WeightFormat::int8;  // int8: q in [-128, 127], zero = 0; int4: q in [0, 15]
  /// Inputs per group: 32, 64, 128 or 256; 0: all inputs of an output (per channel). The last group may be shorter.
  std::int64_t group_size = 64;
  bool symmetric = true;  // int4 alone may be asymmetric; the zero of a symmetric int4 is 8
  /// false: activations are rounded to integers of 8 bits, with one scale per token and 64 inputs (32 with groups of 32, or an
  /// asymmetric matrix), and products are of integers.
  /// true: a weight is w = round_to_float32(scale (q - zero)), then the arithmetic of a float32 matrix.
  bool weight_only = false;

  friend bool operator==(const QuantizationFormat&, const QuantizationFormat&) = default;
};

/// A weight matrix of K = `in` inputs and N = `out` outputs. P = ceil(N / 16) panels, S = ceil(K / 8) steps,
/// G = ceil(K / group_size) groups (1 per channel); whatever stands beyond K or N is zero.
///
///   layout   format        values
///   kInOut   f32 f16 bf16  [K, N]
///   kOutIn   f32 f16 bf16  [N, K]
///   kPanels  f32 f16 bf16  [P, K, 16]: element (p, k, j) is the weight from input k to output 16 p + j
///   kPanels  int8          i8 [P, 4 S, 16, 2]: (p, i, j, t) is q of input 2 i + t, output 16 p + j
///   kPanels  int4          u8 [P, S, 16, 4]: of (p, s, j, t), bits 0 .. 3 are q of input 8 s + t, 4 .. 7 of 8 s + 4 + t
///
///   scales        f16 or f32 [P, G, 16]
///   zero_points   u8 [P, G, 16], of an asymmetric int4; else empty. From 0 to 15, which no op checks: files are checked when
///                 they are loaded, and products with others are wrong
struct Weight {
  std::int64_t in = 0;
  std::int64_t out = 0;
  WeightLayout layout = WeightLayout::kInOut;
  WeightLayout file_layout = layout;  // kInOut or kOutIn: how its checkpoint stores it
  Tensor values = {};
  Tensor scales = {};
  Tensor zero_points = {};
  std::int64_t group_size = 0;  // of a quantized matrix; 0: per channel
  bool weight_only = false;     // of a quantized matrix

  WeightFormat format() const noexcept;
  bool quantized() const noexcept { return format() >= WeightFormat::int8; }
  QuantizationFormat quantization() const noexcept;
  /// [in, out] or [out, in], as file_layout says.
  Shape file_shape() const;
  /// Bytes of values, scales and zero points.
  std::size_t nbytes() const noexcept;
  /// Throws ShapeError naming what does not fit, `what` being the matrix' name; ArgumentError for a quantization that does
  /// not exist (ops::check).
  void check(std::string_view what) const;
};

/// The groups of a matrix of `in` inputs: 1 when group_size is 0.
constexpr std::int64_t groups_of(std::int64_t in, std::int64_t group_size) noexcept {
  return group_size == 0 ? 1 : (in + group_size - 1) / group_size;
}

/// The same matrix in panels, its elements unchanged; itself when it is in panels. Large matrices get pages of 2 MiB
/// where the system gives them. Throws MemoryError, ShapeError.
Weight pack(const Weight& weight);

/// The inverse: f32, f16 or bf16 panels as [in, out] or [out, in]. Throws UnsupportedError for a quantized matrix,
/// ArgumentError when layout is kPanels; so does dequantize.
Tensor unpack(const Weight& weight, WeightLayout layout);

/// The matrix as float32 [in, out] or [out, in], exactly what the float kernels compute with: widened, or
/// round(scale (q - zero)). Throws MemoryError, ShapeError.
Tensor dequantize(const Weight& weight, WeightLayout layout);

}  // namespace gpt::ops
