// The quantized blocks of GGUF files, and quantized matrices: one into the other and back without a change of a bit.
// Format: https://github.com/ggml-org/ggml, ggml-common.h, block_q8_0 and block_q4_0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gpt/ops/weight.h"

namespace gpt::ops {

/// A block is 32 inputs of one output, in a row-major matrix [out, in] whose rows are whole blocks.
///   kQ8_0  34 bytes: f16 d, then 32 times i8 q; w = d q
///   kQ4_0  18 bytes: f16 d, then 16 bytes, byte i holding q of input i below and q of input i + 16 above; w = d (q - 8)
enum class GgufBlock : std::uint8_t { kQ8_0, kQ4_0 };

/// "Q8_0", "Q4_0"
std::string_view name_of(GgufBlock block) noexcept;

/// Bytes of a matrix of `in` inputs, a multiple of 32, and `out` outputs. Throws UnsupportedError, ShapeError.
std::size_t gguf_size(GgufBlock block, std::int64_t in, std::int64_t out);

/// The matrix as int8 (Q8_0) or symmetric int4 (Q4_0) with a group_size of 32; every d and q keeps its bits, a q of -128
/// in Q8_0 too. `what` names the matrix in errors. Throws ShapeError when the bytes are not gguf_size, UnsupportedError for
/// inputs that do not fill whole blocks, FormatError naming row and block for a d that is not finite, MemoryError.
Weight from_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes, std::int64_t in,
                 std::int64_t out, bool weight_only = false);

/// The block type that holds a matrix without loss. Throws UnsupportedError naming what stands against it: a format
/// that is not quantized, another group_size, zero points, f32 scales, a number of inputs that is no multiple of 32.
GgufBlock gguf_block_of(std::string_view what, const Weight& weight);

/// The inverse of from_gguf. Throws as gguf_block_of, ShapeError as Weight::check.
std::vector<std::byte> to_gguf(std::string_view what, const Weight& weight);

}  // namespace gpt::ops
