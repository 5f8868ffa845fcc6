// From float weights to int8 and int4.
#pragma once

#include <span>
#include <stop_token>
#include <string_view>

#include "gpt/ops/weight.h"

namespace gpt::ops {

/// The matrix with its elements rounded to q, in panels. For every group of inputs of every output, the scale (and the
/// zero point of an asymmetric format, 0 to 15) is searched for that makes
///     sum over the group of importance[k] (w[k] - scale (q[k] - zero))^2
/// small, q being the integers nearest to w / scale + zero for the scale as it is stored. The result is never worse, by
/// that sum, than scaling the largest magnitude to the end of the range; a symmetric int4 scale may be negative, since
/// the range -8 .. 7 is longer on one side.
///   weight      f32, f16 or bf16, in any layout
///   importance  [K], what an error of each input's weights costs: the mean square of that input, as AWQ
///               (arXiv 2306.00978, section 3.2) and llama.cpp's importance matrix weigh it; empty: all alike
/// Scales are f16; f32 for the whole matrix when that of any group would not be a normal f16. A group of zeros has the
/// scale 0. The bits depend on the arguments alone.
/// `what` names the matrix in errors. Throws ArgumentError (a format that does not exist, a negative or non-finite
/// importance), ShapeError, UnsupportedError for a matrix that is quantized already, MemoryError, NumericError naming the
/// first weight that is not finite, and CancelledError soon after `stop` is requested: it is asked before every group.
Weight quantize(std::string_view what, const Weight& weight, const QuantizationFormat& format,
                std::span<const float> importance = {}, std::stop_token stop = {});

/// Throws ArgumentError naming what makes it a format that does not exist.
void check(const QuantizationFormat& format);

}  // namespace gpt::ops
