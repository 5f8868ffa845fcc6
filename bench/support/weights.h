// Matrices with random elements, in the formats that the names of benchmarks spell.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpt/core/dtype.h"
#include "gpt/ops/weight.h"

namespace gpt::bench {

struct Work;

/// "f32", "f16", "bf16", "int8", "int4" in panels, as the kernels stream them. What follows is optional:
///   f32-inout, f32-outin   a layout of files, for a matrix; f32-file: for a network, the layout of its checkpoint
///   int4-g32               inputs per group (default 64; g0: per channel)
///   int4-asym              with zero points
///   int8-wo                weight-only: activations stay float32
/// as in int4-g32-asym-wo.
struct Format {
  std::optional<DType> dtype;            // of a matrix of floats
  ops::QuantizationFormat quantization;  // of another
  enum class Layout { kPanels, kInOut, kOutIn, kFile } layout = Layout::kPanels;

  /// Throws ArgumentError.
  explicit Format(const std::string& text);
  /// Counts the operations of products with such matrices as what they are: of floats, or of 16-bit or 8-bit integers.
  void count_products(Work& work, std::int64_t rows, double operations) const;
};

/// Formats that are measured without being asked for.
const std::vector<std::string>& formats();

/// An uninitialized tensor in pages of 2 MiB where the system gives them, as the library's own matrices lie.
Tensor paged_tensor(const Shape& shape, DType dtype);

/// The matrix of in inputs and out outputs; plain layouts only for floats. file_layout: that of its checkpoint.
ops::Weight random_weight(const Format& format, std::int64_t in, std::int64_t out,
                          ops::WeightLayout file_layout, std::uint64_t seed = 1);

/// A copy with memory of its own.
ops::Weight clone(const ops::Weight& weight);

}  // namespace gpt::bench
