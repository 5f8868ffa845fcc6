#include "gpt/ops/gguf_blocks.h"

#include <cmath>

#include "core/memory.h"
#include "gpt/core/parallel.h"
#include "ops/checks.h"
#include "ops/quantized_weight.h"

namespace gpt::ops {
namespace {

constexpr std::int64_t kBlock = 32;  // inputs
constexpr std::int64_t kHalf = kBlock / 2;

constexpr std::int64_t bytes_of(GgufBlock block) { return 2 + (block == GgufBlock::kQ8_0 ? kBlock : kHalf); }

Float16 read_scale(const std::byte* block) noexcept {  // little-endian, like all of GGUF
  Float16 d;
  d.bits = static_cast<std::uint16_t>(std::to_integer<unsigned>(block[0]) |
                                      std::to_integer<unsigned>(block[1]) << 8);
  return d;
}

void write_scale(std::byte* block, Float16 d) noexcept {
  block[0] = static_cast<std::byte>(d.bits & 0xff);
  block[1] = static_cast<std::byte>(d.bits >> 8);
}

/// q of the block's input i.
int read_q(GgufBlock type, const std::byte* block, std::int64_t i) noexcept {
  if (type == GgufBlock::kQ8_0) return static_cast<std::int8_t>(std::to_integer<unsigned char>(block[2 + i]));
  const int pair = std::to_integer<int>(block[2 + i % kHalf]);
  return i < kHalf ? pair & 15 : pair >> 4;
}

void require_whole_blocks(std::string_view what, std::int64_t in) {
  if (in % kBlock != 0)
    fail<UnsupportedError>(what, "has ", in, " inputs, which do not fill whole blocks of ", kBlock);
}

}  // namespace

std::string_view name_of(GgufBlock block) noexcept { return block == GgufBlock::kQ8_0 ? "Q8_0" : "Q4_0"; }

std::size_t gguf_size(GgufBlock block, std::int64_t in, std::int64_t out) {
  require_whole_blocks(name_of(block), in);
  return static_cast<std::size_t>(Shape{out, in / kBlock, bytes_of(block)}.numel());
}

Weight from_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes, std::int64_t in,
                 std::int64_t out, bool weight_only) {
  require_whole_blocks(what, in);
  if (bytes.size() != gguf_size(block, in, out))
    fail<ShapeError>(what, "has ", bytes.size(), " bytes, expected ", gguf_size(block, in, out), " of ",
                     name_of(block), " for ", Shape{out, in}.to_string());
  const std::int64_t blocks = in / kBlock, size = bytes_of(block);
  for (std::int64_t i = 0; i < out * blocks; ++i)
    if (!std::isfinite(static_cast<float>(read_scale(bytes.data() + i * size))))
      fail<FormatError>(what, "row ", i / blocks, ", block ", i % blocks, " of ", name_of(block),
                        " has a scale that is not finite");

  const bool int8 = block == GgufBlock::kQ8_0;
  Weight w = empty_quantized(in, out,
                             {.format = int8 ? WeightFormat::int8 : WeightFormat::int4,
                              .group_size = kBlock,
                              .weight_only = weight_only},
                             DType::f16);
  w.file_layout = WeightLayout::kOutIn;
  const QuantizedElements elements(w);
  auto* const scales = w.scales.data<Float16>();
  parallel_for(out, grain_for(in), [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t n = begin; n < end; ++n)
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::byte* const at = bytes.data() + (n * blocks + b) * size;
        scales[elements.group(b, n)] = read_scale(at);
        for (std::int64_t i = 0; i < kBlock; ++i) elements.set(b * kBlock + i, n, read_q(block, at, i));
      }
  });
  return w;
}

GgufBlock gguf_block_of(std::string_view what, const Weight& weight) {
  weight.check(what);
  if (!weight.quantized())
    fail<UnsupportedError>(what, "is ", name_of(weight.format()), ", expected int8 or int4");
  if (weight.group_size != kBlock)
    fail<UnsupportedError>(what, "has group_size ", weight.group_size, ", GGUF's blocks have ", kBlock);
  if (!weight.zero_points.empty())
    fail<UnsupportedError>(what, "has zero points, which GGUF's blocks do not");
  if (weight.scales.dtype() != DType::f16)
    fail<UnsupportedError>(what, "has ", gpt::name_of(weight.scales.dtype()), " scales, GGUF's are float16");
  require_whole_blocks(what, weight.in);
  return weight.format() == WeightFormat::int8 ? GgufBlock::kQ8_0 : GgufBlock::kQ4_0;
}

std::vector<std::byte> to_gguf(std::string_view what, const Weight& weight) {
  const GgufBlock block = gguf_block_of(what, weight);
  const std::int64_t blocks = weight.in / kBlock, size = bytes_of(block);
  std::vector<std::byte> bytes = with_memory_errors(
      what, [&] { return std::vector<std::byte>(gguf_size(block, weight.in, weight.out)); });
  const ConstQuantizedElements elements(weight);
  const auto* const scales = weight.scales.data<Float16>();
  parallel_for(weight.out, grain_for(weight.in), [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t n = begin; n < end; ++n)
      for (std::int64_t b = 0; b < blocks; ++b) {
        std::byte* const at = bytes.data() + (n * blocks + b) * size;
        write_scale(at, scales[elements.group(b, n)]);
        const auto q = [&](std::int64_t i) { return elements.get(b * kBlock + i, n); };
        if (block == GgufBlock::kQ8_0)
          for (std::int64_t i = 0; i < kBlock; ++i) at[2 + i] = static_cast<std::byte>(q(i) & 0xff);
        else
          for (std::int64_t i = 0; i < kHalf; ++i)
            at[2 + i] = static_cast<std::byte>(q(i) | q(i + kHalf) << 4);
      }
  });
  return bytes;
}

}  // namespace gpt::ops
