// The quantized blocks of GGUF files: those that are quantized matrices here, too, without a change of a bit, and the way from
// all of them to floats.
// Format: https://github.com/ggml-org/ggml, ggml-common.h, block_q8_0 and its neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gpt/ops/weight.h"

namespace gpt::ops {

/// A block is 32 inputs of one output (256 of the kinds K), in a row-major matrix [out, in] whose rows are whole blocks. d, m
/// and dmin are f16; nibble i of n bytes is the lower half of byte i, and nibble n + i the upper half.
///   kQ8_0   34 bytes: d, then 32 times i8 q; w = d q
///   kQ4_0   18 bytes: d, then 32 nibbles q; w = d (q - 8)
///   kQ4_1   20 bytes: d, m, then 32 nibbles q; w = d q + m
///   kQ5_0   22 bytes: d, 32 bits, 32 nibbles; q of input i is the nibble and, above it, bit i; w = d (q - 16)
///   kQ5_1   24 bytes: d, m, 32 bits, 32 nibbles; q likewise; w = d q + m
///   kQ4_K  144 bytes: d, dmin, 12 bytes with 8 pairs (s, t) of 6 bits, then for every 64 inputs 64 nibbles q;
///          w = (d s) q - (dmin t), a pair for every 32 inputs
///   kQ5_K  176 bytes: d, dmin, the 12 bytes, 32 bytes whose bit j is bit 4 of q of an input of the j-th 32, nibbles; w likewise
///   kQ6_K  210 bytes: 128 bytes of nibbles, 64 bytes of pairs of bits above them, 16 times i8 s, d; w = (d s) (q - 32), an s
///          for every 16 inputs
/// The pairs of 6 bits: of the first four, s is in the low bits of byte j, and t in those of byte j + 4; of the others, the low
/// halves are in byte j + 4 (s below, t above), and their high bits above those of the first four.
enum class GgufBlock : std::uint8_t { kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K };

/// "Q8_0", "Q4_0", ...
std::string_view name_of(GgufBlock block) noexcept;

/// Inputs in a block, 32 or 256, and its bytes.
std::int64_t inputs_of(GgufBlock block) noexcept;
std::int64_t bytes_of(GgufBlock block) noexcept;

/// Bytes of a matrix of `in` inputs, which must fill whole blocks, and `out` outputs. Throws UnsupportedError, ShapeError.
std::size_t gguf_size(GgufBlock block, std::int64_t in, std::int64_t out);

/// The matrix as int8 (Q8_0) or symmetric int4 (Q4_0) with a group_size of 32; every d and q keeps its bits, a q of -128
/// in Q8_0 too. `what` names the matrix in errors. Throws ShapeError when the bytes are not gguf_size, UnsupportedError for
/// other kinds of blocks and for inputs that do not fill whole blocks, FormatError naming row and block for a d that is not
/// finite, MemoryError.
Weight from_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes, std::int64_t in,
                 std::int64_t out, bool weight_only = false);

/// The matrix as floats [out, in] of a weight type: the formula of the block in float32, each operation rounded (a product of
/// scales first), then rounded to `dtype`. Throws as from_gguf, for blocks of any kind; FormatError also for an m or dmin that
/// is not finite; UnsupportedError for a dtype that weights cannot have.
Tensor dequantize_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes,
                       std::int64_t in, std::int64_t out, DType dtype = DType::f32);

/// The block type that holds a matrix without loss. Throws UnsupportedError naming what stands against it: a format
/// that is not quantized, another group_size, zero points, f32 scales, a number of inputs that is no multiple of 32.
GgufBlock gguf_block_of(std::string_view what, const Weight& weight);

/// The inverse of from_gguf. Throws as gguf_block_of, ShapeError as Weight::check.
std::vector<std::byte> to_gguf(std::string_view what, const Weight& weight);

/// Floats float32 [out, in] as blocks, rounded as the format's reference does (ggml-quants.c, quantize_row_q8_0_ref and
/// quantize_row_q4_0_ref): d = max |w| / 127 and q = w / d rounded half away from zero; d = w of the largest |w| / -8 and
/// q = min(15, floor(w / d + 8.5)), 1 / d being rounded first. Throws UnsupportedError for other kinds of blocks and inputs that
/// do not fill whole blocks; NumericError naming the row and block whose weights, or d, are not finite; ShapeError, MemoryError.
std::vector<std::byte> quantize_gguf(std::string_view what, GgufBlock block, ConstTensorView weights);

}  // namespace gpt::ops
