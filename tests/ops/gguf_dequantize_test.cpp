// GGUF's blocks as floats, against formulas that look up every weight by itself, and floats as blocks.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/ops/gguf_blocks.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::expect_error;
using gpt::test::random_tensor;

constexpr GgufBlock kAll[] = {GgufBlock::kQ8_0, GgufBlock::kQ4_0, GgufBlock::kQ4_1, GgufBlock::kQ5_0,
                              GgufBlock::kQ5_1, GgufBlock::kQ4_K, GgufBlock::kQ5_K, GgufBlock::kQ6_K};

/// Where the f16 numbers of a block of the kind begin.
std::vector<int> f16_places(GgufBlock kind) {
  switch (kind) {
    case GgufBlock::kQ8_0:
    case GgufBlock::kQ4_0:
    case GgufBlock::kQ5_0: return {0};
    case GgufBlock::kQ6_K: return {208};
    default: return {0, 2};
  }
}

/// Random bytes, with scales that are finite.
std::vector<std::byte> finite_blocks(GgufBlock kind, std::int64_t in, std::int64_t out) {
  std::vector<std::byte> bytes(gguf_size(kind, in, out));
  const CounterRng rng(static_cast<std::uint64_t>(kind) + 5);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(rng.bits(i) & 0xff);
  const auto size = static_cast<std::size_t>(bytes_of(kind));
  for (std::size_t block = 0; block < bytes.size(); block += size)
    for (const int place : f16_places(kind)) {
      std::byte& high = bytes[block + static_cast<std::size_t>(place) + 1];
      if ((std::to_integer<int>(high) & 0x7c) == 0x7c) high = std::byte{0x29};
    }
  return bytes;
}

/// One block, looked at as the format's description numbers its bits.
class Block {
 public:
  explicit Block(const std::byte* bytes) : bytes_(bytes) {}

  float weight(GgufBlock kind, int i) const {
    switch (kind) {
      case GgufBlock::kQ8_0: return f16(0) * static_cast<float>(signed_byte(2 + i));
      case GgufBlock::kQ4_0: return f16(0) * static_cast<float>(nibble_of_32(2, i) - 8);
      case GgufBlock::kQ4_1: return rounded(f16(0) * static_cast<float>(nibble_of_32(4, i))) + f16(2);
      case GgufBlock::kQ5_0: return f16(0) * static_cast<float>(nibble_of_32(6, i) + 16 * bit(2, i) - 16);
      case GgufBlock::kQ5_1:
        return rounded(f16(0) * static_cast<float>(nibble_of_32(8, i) + 16 * bit(4, i))) + f16(2);
      case GgufBlock::kQ4_K: return affine(i, nibble_of_64(16, i));
      // Bit j of the byte of input 32 j + k is the fifth bit.
      case GgufBlock::kQ5_K: return affine(i, nibble_of_64(48, i) + 16 * bit(16 + i % 32, i / 32));
      case GgufBlock::kQ6_K: {
        const int h = i / 128, k = i % 128;
        const int low = k < 64 ? byte(64 * h + k) & 15 : byte(64 * h + k - 64) >> 4;
        const int high = byte(128 + 32 * h + k % 32) >> 2 * (k / 32) & 3;
        return rounded(f16(208) * static_cast<float>(signed_byte(192 + i / 16))) *
               static_cast<float>(low + 16 * high - 32);
      }
    }
    return 0;
  }

 private:
  int byte(int at) const { return std::to_integer<int>(bytes_[at]); }
  int signed_byte(int at) const { return byte(at) < 128 ? byte(at) : byte(at) - 256; }
  int bit(int at, int i) const { return byte(at + i / 8) >> i % 8 & 1; }
  int nibble_of_32(int at, int i) const { return i < 16 ? byte(at + i) & 15 : byte(at + i - 16) >> 4; }
  int nibble_of_64(int at, int i) const {
    const int k = i % 64, first = at + i / 64 * 32;
    return k < 32 ? byte(first + k) & 15 : byte(first + k - 32) >> 4;
  }
  float f16(int at) const {
    Float16 h;
    h.bits = static_cast<std::uint16_t>(byte(at) + 256 * byte(at + 1));
    return static_cast<float>(h);
  }
  static float rounded(float x) {
    volatile float y = x;  // whatever the compiler would fuse
    return y;
  }
  /// d s q - dmin t, with the packed six-bit numbers written out pair by pair.
  float affine(int i, int q) const {
    const auto b = [this](int k) { return byte(4 + k); };
    const int s[] = {b(0) & 63,
                     b(1) & 63,
                     b(2) & 63,
                     b(3) & 63,
                     (b(8) & 15) + b(0) / 64 * 16,
                     (b(9) & 15) + b(1) / 64 * 16,
                     (b(10) & 15) + b(2) / 64 * 16,
                     (b(11) & 15) + b(3) / 64 * 16};
    const int t[] = {b(4) & 63,
                     b(5) & 63,
                     b(6) & 63,
                     b(7) & 63,
                     b(8) / 16 + b(4) / 64 * 16,
                     b(9) / 16 + b(5) / 64 * 16,
                     b(10) / 16 + b(6) / 64 * 16,
                     b(11) / 16 + b(7) / 64 * 16};
    const float scale = rounded(f16(0) * static_cast<float>(s[i / 32]));
    const float min = rounded(f16(2) * static_cast<float>(t[i / 32]));
    return rounded(scale * static_cast<float>(q)) - min;
  }

  const std::byte* bytes_;
};

TEST(GgufDequantize, GivesEveryWeightOfEveryKindAsTheFormatDefinesIt) {
  for (const GgufBlock kind : kAll) {
    SCOPED_TRACE(name_of(kind));
    const std::int64_t in = 2 * inputs_of(kind), out = 19;
    const std::vector<std::byte> bytes = finite_blocks(kind, in, out);
    const Tensor w = dequantize_gguf("w", kind, bytes, in, out);
    ASSERT_EQ(w.shape(), (Shape{out, in}));
    for (std::int64_t i = 0; i < out * in; ++i) {
      const std::int64_t n = inputs_of(kind);
      const Block block(bytes.data() + i / n * bytes_of(kind));
      ASSERT_EQ(w.data<float>()[i], block.weight(kind, static_cast<int>(i % n))) << i;
    }
  }
}

TEST(GgufDequantize, RoundsToTheTypeAskedFor) {
  const std::vector<std::byte> bytes = finite_blocks(GgufBlock::kQ5_K, 256, 3);
  const Tensor exact = dequantize_gguf("w", GgufBlock::kQ5_K, bytes, 256, 3);
  for (const DType dtype : {DType::f16, DType::bf16})
    EXPECT_TRUE(
        test::same_bits(dequantize_gguf("w", GgufBlock::kQ5_K, bytes, 256, 3, dtype), exact.to(dtype)));
  expect_error<UnsupportedError>([&] { dequantize_gguf("w", GgufBlock::kQ5_K, bytes, 256, 3, DType::i8); },
                                 {"[w]", "int8", "float32"});
}

TEST(GgufDequantize, AgreesWithTheQuantizedMatrixWhereThereIsOne) {
  for (const GgufBlock kind : {GgufBlock::kQ8_0, GgufBlock::kQ4_0}) {
    const std::vector<std::byte> bytes = finite_blocks(kind, 96, 21);
    EXPECT_TRUE(test::same_bits(dequantize_gguf("w", kind, bytes, 96, 21),
                                dequantize(from_gguf("w", kind, bytes, 96, 21), WeightLayout::kOutIn)));
  }
}

TEST(GgufDequantize, NamesTheBlockWhoseScaleIsNotFinite) {
  for (const GgufBlock kind : kAll)
    for (const int place : f16_places(kind)) {
      SCOPED_TRACE(concat(name_of(kind), " ", place));
      const std::int64_t in = 2 * inputs_of(kind);
      std::vector<std::byte> bytes = finite_blocks(kind, in, 3);
      bytes[static_cast<std::size_t>(3 * bytes_of(kind) + place + 1)] = std::byte{0x7c};
      expect_error<FormatError>([&] { dequantize_gguf("w", kind, bytes, in, 3); },
                                {"[w]", "row 1, block 1", name_of(kind), "not finite"});
    }
}

TEST(GgufDequantize, RefusesSizesThatDoNotFit) {
  const std::vector<std::byte> bytes = finite_blocks(GgufBlock::kQ6_K, 256, 2);
  expect_error<ShapeError>([&] { dequantize_gguf("w", GgufBlock::kQ6_K, bytes, 256, 3); },
                           {"[w]", "420", "630"});
  expect_error<UnsupportedError>([&] { dequantize_gguf("w", GgufBlock::kQ6_K, bytes, 128, 4); },
                                 {"[w]", "128 inputs", "256"});
  expect_error<UnsupportedError>([&] { from_gguf("w", GgufBlock::kQ6_K, bytes, 256, 2); },
                                 {"[w]", "Q6_K", "Q8_0 or Q4_0"});
}

Tensor row_of(const std::vector<float>& values) {
  Tensor t = Tensor::zeros({1, 32});
  std::copy(values.begin(), values.end(), t.data<float>());
  return t;
}

TEST(GgufQuantize, RoundsQ8_0AsTheReferenceDoes) {
  // d = 127 / 127 = 1; halves away from zero.
  const auto block = quantize_gguf("w", GgufBlock::kQ8_0, row_of({127, -127, 0.5f, -0.5f, 1.49f, -2.5f}));
  ASSERT_EQ(block.size(), 34u);
  const int expected[] = {0x00, 0x3c, 127, 129, 1, 255, 1, 253, 0};  // f16 1, then q
  for (std::size_t i = 0; i < std::size(expected); ++i)
    EXPECT_EQ(std::to_integer<int>(block[i]), expected[i]) << i;
}

TEST(GgufQuantize, RoundsQ4_0AsTheReferenceDoes) {
  // The largest magnitude is 8, positive: d = -1, and w / d + 8.5 is cut: 8 -> 0, -8 -> 16 -> 15.
  const auto block = quantize_gguf("w", GgufBlock::kQ4_0, row_of({8, -8, 0, 0.5f, 0.6f, -1.5f}));
  ASSERT_EQ(block.size(), 18u);
  const int expected[] = {0x00,       0xbc,       0 | 8 << 4, 15 | 8 << 4,
                          8 | 8 << 4, 8 | 8 << 4, 7 | 8 << 4, 10 | 8 << 4};
  for (std::size_t i = 0; i < std::size(expected); ++i)
    EXPECT_EQ(std::to_integer<int>(block[i]), expected[i]) << i;
}

TEST(GgufQuantize, KeepsZerosAndStaysWithinHalfAStep) {
  const Tensor w = random_tensor({5, 64}, 3);
  for (const auto& [kind, steps] : {std::pair(GgufBlock::kQ8_0, 127.0f), {GgufBlock::kQ4_0, 8.0f}}) {
    const Tensor back = dequantize_gguf("w", kind, quantize_gguf("w", kind, w), 64, 5);
    for (std::int64_t block = 0; block < 10; ++block) {
      float largest = 0;
      for (std::int64_t i = 0; i < 32; ++i)
        largest = std::max(largest, std::fabs(w.data<float>()[block * 32 + i]));
      // A step is largest / steps. Q4_0 cannot reach the other end of its range: up to a whole step there. f16 rounds the
      // scale by 2^-11.
      const float bound = largest / steps * (kind == GgufBlock::kQ8_0 ? 0.5f : 1.0f) + largest * 0x1p-11f;
      for (std::int64_t i = block * 32; i < block * 32 + 32; ++i)
        ASSERT_LE(std::fabs(w.data<float>()[i] - back.data<float>()[i]), bound);
    }
    const auto zeros = quantize_gguf("w", kind, Tensor::zeros({1, 32}));
    EXPECT_EQ(zeros[0], std::byte{0});
    EXPECT_EQ(zeros[1], kind == GgufBlock::kQ8_0 ? std::byte{0} : std::byte{0x80});  // 0 / -8 is -0
  }
}

TEST(GgufQuantize, RefusesWhatBlocksCannotHold) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const GgufBlock kind : {GgufBlock::kQ8_0, GgufBlock::kQ4_0}) {
    expect_error<NumericError>(
        [&] {
          quantize_gguf("w", kind, row_of({1, nan}));
        },
        {"[w]", "row 0, block 0", "not finite", name_of(kind)});
    expect_error<NumericError>([&] { quantize_gguf("w", kind, row_of({1e30f})); },
                               {"[w]", "too large", "f16"});
    expect_error<UnsupportedError>([&] { quantize_gguf("w", kind, Tensor::zeros({2, 48})); }, {"48 inputs"});
  }
  expect_error<UnsupportedError>(
      [] {
        quantize_gguf("w", GgufBlock::kQ4_K, Tensor::zeros({1, 256}));
      },
      {"Q4_K"});
  expect_error<ShapeError>(
      [] {
        quantize_gguf("w", GgufBlock::kQ8_0, Tensor::zeros({1, 32}, DType::f16));
      },
      {"float16"});
}

}  // namespace
}  // namespace gpt::ops
