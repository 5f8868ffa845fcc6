// GGUF's blocks: handmade ones, and the way there and back.
#include "gpt/ops/gguf_blocks.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/ops/quantize.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::ops {
namespace {

using gpt::test::expect_error;
using gpt::test::plain_weight;
using gpt::test::random_tensor;
using gpt::test::same_bits;

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v & 0xff));
  return out;
}

/// Blocks with finite scales of every size and sign, and all q, also the -128 that only other programs write.
std::vector<std::byte> random_blocks(GgufBlock block, std::int64_t in, std::int64_t out) {
  std::vector<std::byte> bytes(gguf_size(block, in, out));
  const CounterRng rng(11);
  const std::size_t size = block == GgufBlock::kQ8_0 ? 34 : 18;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(rng.bits(i) & 0xff);
    if (i % size == 1 && (std::to_integer<int>(bytes[i]) & 0x7c) == 0x7c)
      bytes[i] = std::byte{0x83};  // NaN, infinity
  }
  return bytes;
}

TEST(GgufBlocks, ReadsQ8_0AsTheFormatDefinesIt) {
  std::vector<std::byte> block = bytes_of({0x00, 0xb8});  // -0.5
  for (int i = 0; i < 32; ++i) block.push_back(static_cast<std::byte>((i * 8 - 127) & 0xff));
  const Tensor w = dequantize(from_gguf("w", GgufBlock::kQ8_0, block, 32, 1), WeightLayout::kOutIn);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(w.data<float>()[i], -0.5f * static_cast<float>(i * 8 - 127));
}

TEST(GgufBlocks, ReadsQ4_0AsTheFormatDefinesIt) {
  std::vector<std::byte> block = bytes_of({0x01, 0x3c});  // 1 + 2^-10
  for (int i = 0; i < 16; ++i) block.push_back(static_cast<std::byte>(i | (15 - i) << 4));
  const Weight q = from_gguf("w", GgufBlock::kQ4_0, block, 32, 1, true);
  EXPECT_TRUE(q.weight_only);
  EXPECT_EQ(q.group_size, 32);
  const Tensor w = dequantize(q, WeightLayout::kOutIn);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(w.data<float>()[i], 0x1.004p0f * static_cast<float>(i - 8));
    EXPECT_EQ(w.data<float>()[16 + i], 0x1.004p0f * static_cast<float>(7 - i));
  }
}

TEST(GgufBlocks, KeepsEveryBitOnTheWayThereAndBack) {
  for (const GgufBlock block : {GgufBlock::kQ8_0, GgufBlock::kQ4_0})
    for (const std::int64_t out : {1, 16, 37}) {
      const std::vector<std::byte> bytes = random_blocks(block, 96, out);
      const Weight q = from_gguf("w", block, bytes, 96, out);
      EXPECT_EQ(gguf_block_of("w", q), block);
      EXPECT_EQ(to_gguf("w", q), bytes) << name_of(block) << ", " << out << " rows";
    }
}

TEST(GgufBlocks, HoldWhatQuantizeMakes) {
  const Tensor w = random_tensor({64, 21}, 3);
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4}) {
    const Weight q =
        quantize("w", plain_weight(w, WeightLayout::kInOut), {.format = format, .group_size = 32});
    const Weight back = from_gguf("w", gguf_block_of("w", q), to_gguf("w", q), 64, 21);
    EXPECT_TRUE(same_bits(q.values, back.values) && same_bits(q.scales, back.scales)) << name_of(format);
  }
}

TEST(GgufBlocks, NamesWhatItRefuses) {
  const auto read = [](GgufBlock block, const std::vector<std::byte>& bytes, std::int64_t in,
                       std::int64_t out) { return [=] { from_gguf("blk.0.w", block, bytes, in, out); }; };
  const auto good8 = random_blocks(GgufBlock::kQ8_0, 64, 3), good4 = random_blocks(GgufBlock::kQ4_0, 64, 3);
  expect_error<ShapeError>(read(GgufBlock::kQ8_0, good8, 64, 4), {"blk.0.w", "204 bytes", "272", "[4, 64]"});
  expect_error<ShapeError>(read(GgufBlock::kQ8_0, good4, 64, 3), {"108 bytes", "204", "Q8_0"});
  expect_error<UnsupportedError>(read(GgufBlock::kQ4_0, good4, 40, 3), {"blk.0.w", "40 inputs"});
  auto bad = good8;
  bad[34 * 5 + 1] = std::byte{0x7c};
  bad[34 * 5] = std::byte{0};
  expect_error<FormatError>(read(GgufBlock::kQ8_0, bad, 64, 3), {"blk.0.w", "row 2, block 1", "not finite"});
}

TEST(GgufBlocks, NamesWhatStandsAgainstWritingThem) {
  const Tensor w = random_tensor({40, 20}, 3);  // [K, N]
  const auto write = [](const Weight& q) { return [q] { to_gguf("w", q); }; };
  const auto quantized = [&](const QuantizationFormat& f) {
    return quantize("w", plain_weight(w, WeightLayout::kInOut), f);
  };
  expect_error<UnsupportedError>(write(plain_weight(w, WeightLayout::kInOut)), {"[w]", "float32"});
  expect_error<UnsupportedError>(write(quantized({.group_size = 64})), {"group_size 64"});
  expect_error<UnsupportedError>(
      write(quantized({.format = WeightFormat::int4, .group_size = 32, .symmetric = false})),
      {"zero points"});
  expect_error<UnsupportedError>(write(quantized({.group_size = 32})), {"40 inputs"});
  const Tensor large = random_tensor({64, 20}, 3, DType::f32, 1e30f);
  expect_error<UnsupportedError>(
      write(quantize("w", plain_weight(large, WeightLayout::kInOut), {.group_size = 32})),
      {"float32 scales"});
}

}  // namespace
}  // namespace gpt::ops
