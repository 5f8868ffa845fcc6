// From GGUF's blocks to floats.
#include <array>
#include <cstdint>

#include "gpt/core/parallel.h"
#include "ops/gguf_layout.h"

namespace gpt::ops {
namespace {

constexpr std::int64_t kMostInputs = 256;  // of a block
using Superblock = std::array<float, kMostInputs>;

float f16_at(const std::byte* at) noexcept { return static_cast<float>(read_f16(at)); }

int nibble(const std::byte* bytes, std::int64_t i, std::int64_t half) noexcept {
  return static_cast<int>(i < half ? byte_at(bytes, i) & 15 : byte_at(bytes, i - half) >> 4);
}

/// The kinds of 32 inputs.
void read_small(GgufBlock kind, const std::byte* b, Superblock& w) noexcept {
  const float d = f16_at(b);
  const bool has_min = kind == GgufBlock::kQ4_1 || kind == GgufBlock::kQ5_1;
  const bool five_bits = kind == GgufBlock::kQ5_0 || kind == GgufBlock::kQ5_1;
  const float m = has_min ? f16_at(b + 2) : 0;
  const std::byte* const bits = b + (has_min ? 4 : 2);
  const std::byte* const nibbles = bits + (five_bits ? 4 : 0);
  for (std::int64_t i = 0; i < 32; ++i) {
    if (kind == GgufBlock::kQ8_0) {
      w[static_cast<std::size_t>(i)] =
          d * static_cast<float>(static_cast<std::int8_t>(std::to_integer<unsigned char>(b[2 + i])));
      continue;
    }
    int q = nibble(nibbles, i, 16);
    if (five_bits) q |= static_cast<int>(byte_at(bits, i / 8) >> (i % 8) & 1) << 4;
    if (has_min)
      w[static_cast<std::size_t>(i)] = d * static_cast<float>(q) + m;
    else
      w[static_cast<std::size_t>(i)] = d * static_cast<float>(q - (five_bits ? 16 : 8));
  }
}

/// Pair j of the eight pairs of 6 bits.
struct ScalePair {
  float s, t;
};
ScalePair scale_pair(const std::byte* p, std::int64_t j) noexcept {
  if (j < 4) return {static_cast<float>(byte_at(p, j) & 63), static_cast<float>(byte_at(p, j + 4) & 63)};
  return {static_cast<float>((byte_at(p, j + 4) & 15) | byte_at(p, j - 4) >> 6 << 4),
          static_cast<float>(byte_at(p, j + 4) >> 4 | byte_at(p, j) >> 6 << 4)};
}

void read_q4_k_or_q5_k(GgufBlock kind, const std::byte* b, Superblock& w) noexcept {
  const bool five_bits = kind == GgufBlock::kQ5_K;
  const float d = f16_at(b), dmin = f16_at(b + 2);
  const std::byte* const high = b + 16;
  const std::byte* const nibbles = high + (five_bits ? 32 : 0);
  for (std::int64_t j = 0; j < 8; ++j) {  // 32 inputs each; two of them share 32 bytes
    const auto [s, t] = scale_pair(b + 4, j);
    const float scale = d * s, min = dmin * t;
    for (std::int64_t i = 0; i < 32; ++i) {
      int q = nibble(nibbles + j / 2 * 32, j % 2 * 32 + i, 32);
      if (five_bits) q |= static_cast<int>(byte_at(high, i) >> j & 1) << 4;
      w[static_cast<std::size_t>(j * 32 + i)] = scale * static_cast<float>(q) - min;
    }
  }
}

void read_q6_k(const std::byte* b, Superblock& w) noexcept {
  const float d = f16_at(b + 208);
  for (std::int64_t i = 0; i < kMostInputs; ++i) {
    // Of every 128 inputs, 64 bytes of nibbles and 32 of pairs of bits.
    const std::int64_t half = i / 128, within = i % 128;
    const int low = nibble(b + half * 64, within, 64);
    const auto high = byte_at(b + 128 + half * 32, within % 32) >> (within / 32 * 2) & 3;
    const auto s = static_cast<std::int8_t>(std::to_integer<unsigned char>(b[192 + i / 16]));
    const float scale = d * static_cast<float>(s);
    w[static_cast<std::size_t>(i)] = scale * static_cast<float>((low | static_cast<int>(high) << 4) - 32);
  }
}

void read_block(GgufBlock kind, const std::byte* block, Superblock& w) noexcept {
  switch (kind) {
    case GgufBlock::kQ4_K:
    case GgufBlock::kQ5_K: return read_q4_k_or_q5_k(kind, block, w);
    case GgufBlock::kQ6_K: return read_q6_k(block, w);
    default: return read_small(kind, block, w);
  }
}

template <class Element>
void dequantize(GgufBlock kind, const std::byte* bytes, std::int64_t blocks, Element* to) {
  const std::int64_t inputs = inputs_of(kind), size = bytes_of(kind);
  parallel_for(blocks, grain_for(4 * inputs), [&](std::int64_t begin, std::int64_t end) noexcept {
    Superblock w;
    for (std::int64_t i = begin; i < end; ++i) {
      read_block(kind, bytes + i * size, w);
      for (std::int64_t k = 0; k < inputs; ++k)
        to[i * inputs + k] = static_cast<Element>(w[static_cast<std::size_t>(k)]);
    }
  });
}

}  // namespace

Tensor dequantize_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes,
                       std::int64_t in, std::int64_t out, DType dtype) {
  check_blocks(what, block, bytes, in, out);
  Tensor w = Tensor::empty({out, in}, dtype);
  const std::int64_t blocks = out * (in / inputs_of(block));
  switch (dtype) {
    case DType::f32: dequantize(block, bytes.data(), blocks, w.data<float>()); break;
    case DType::f16: dequantize(block, bytes.data(), blocks, w.data<Float16>()); break;
    case DType::bf16: dequantize(block, bytes.data(), blocks, w.data<BFloat16>()); break;
    default:
      fail<UnsupportedError>(what, "cannot be ", gpt::name_of(dtype),
                             ", expected float32, float16 or bfloat16");
  }
  return w;
}

}  // namespace gpt::ops
