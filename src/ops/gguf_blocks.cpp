#include "gpt/ops/gguf_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/memory.h"
#include "gpt/core/parallel.h"
#include "ops/gguf_layout.h"
#include "ops/quantized_weight.h"

namespace gpt::ops {
namespace {

constexpr std::int64_t kBlock = 32;  // inputs of Q8_0 and Q4_0
constexpr std::int64_t kHalf = kBlock / 2;

struct BlockKind {
  std::string_view name;
  std::int64_t inputs, bytes;
};
constexpr BlockKind kKinds[] = {{"Q8_0", 32, 34}, {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},
                                {"Q5_1", 32, 24}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};

const BlockKind& kind_of(GgufBlock block) noexcept { return kKinds[static_cast<std::size_t>(block)]; }

/// q of the block's input i.
int read_q(GgufBlock type, const std::byte* block, std::int64_t i) noexcept {
  if (type == GgufBlock::kQ8_0) return static_cast<std::int8_t>(std::to_integer<unsigned char>(block[2 + i]));
  const int pair = std::to_integer<int>(block[2 + i % kHalf]);
  return i < kHalf ? pair & 15 : pair >> 4;
}

/// The kinds that have a form as a Weight.
void require_matching_kind(std::string_view what, GgufBlock block) {
  if (block != GgufBlock::kQ8_0 && block != GgufBlock::kQ4_0)
    fail<UnsupportedError>(what, "is ", name_of(block), ", expected Q8_0 or Q4_0");
}

void quantize_q8_0(const float* w, std::byte* block) noexcept {
  float largest = 0;
  for (std::int64_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(w[i]));
  const float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
  write_f16(block, Float16(d));
  for (std::int64_t i = 0; i < kBlock; ++i)
    block[2 + i] = static_cast<std::byte>(static_cast<int>(std::round(w[i] * inverse)) & 0xff);
}

void quantize_q4_0(const float* w, std::byte* block) noexcept {
  float largest = 0, extreme = 0;
  for (std::int64_t i = 0; i < kBlock; ++i)
    if (std::fabs(w[i]) > largest) {
      largest = std::fabs(w[i]);
      extreme = w[i];
    }
  const float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
  write_f16(block, Float16(d));
  const auto q = [&](std::int64_t i) { return std::min(15, static_cast<int>(w[i] * inverse + 8.5f)); };
  for (std::int64_t i = 0; i < kHalf; ++i) block[2 + i] = static_cast<std::byte>(q(i) | q(i + kHalf) << 4);
}

}  // namespace

std::string_view name_of(GgufBlock block) noexcept { return kind_of(block).name; }
std::int64_t inputs_of(GgufBlock block) noexcept { return kind_of(block).inputs; }
std::int64_t bytes_of(GgufBlock block) noexcept { return kind_of(block).bytes; }

std::size_t gguf_size(GgufBlock block, std::int64_t in, std::int64_t out) {
  require_whole_blocks(name_of(block), block, in);
  return static_cast<std::size_t>(Shape{out, in / inputs_of(block), bytes_of(block)}.numel());
}

Weight from_gguf(std::string_view what, GgufBlock block, std::span<const std::byte> bytes, std::int64_t in,
                 std::int64_t out, bool weight_only) {
  require_matching_kind(what, block);
  check_blocks(what, block, bytes, in, out);
  const std::int64_t blocks = in / kBlock, size = bytes_of(block);
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
        scales[elements.group(b, n)] = read_f16(at);
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
  const GgufBlock block = weight.format() == WeightFormat::int8 ? GgufBlock::kQ8_0 : GgufBlock::kQ4_0;
  require_whole_blocks(what, block, weight.in);
  return block;
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
        write_f16(at, scales[elements.group(b, n)]);
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

std::vector<std::byte> quantize_gguf(std::string_view what, GgufBlock block, ConstTensorView weights) {
  require_matching_kind(what, block);
  if (weights.dtype() != DType::f32 || weights.shape().rank() != 2)
    fail<ShapeError>(what, "is ", gpt::name_of(weights.dtype()), " ", weights.shape().to_string(),
                     ", expected float32 [out, in]");
  const std::int64_t out = weights.dim(0), in = weights.dim(1);
  require_whole_blocks(what, block, in);
  const std::int64_t blocks = in / kBlock, size = bytes_of(block);
  std::vector<std::byte> bytes =
      with_memory_errors(what, [&] { return std::vector<std::byte>(gguf_size(block, in, out)); });
  const float* const w = weights.data<float>();
  const auto finite = [w](std::int64_t i) {
    return std::all_of(w + i * kBlock, w + (i + 1) * kBlock, [](float x) { return std::isfinite(x); });
  };
  parallel_for(out * blocks, grain_for(kBlock), [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) {
      if (!finite(i))  // its d becomes one that the check below finds
        write_f16(bytes.data() + i * size, Float16(std::numeric_limits<float>::infinity()));
      else if (block == GgufBlock::kQ8_0)
        quantize_q8_0(w + i * kBlock, bytes.data() + i * size);
      else
        quantize_q4_0(w + i * kBlock, bytes.data() + i * size);
    }
  });
  for (std::int64_t i = 0; i < out * blocks; ++i)
    if (!std::isfinite(static_cast<float>(read_f16(bytes.data() + i * size))))
      fail<NumericError>(what, "row ", i / blocks, ", block ", i % blocks,
                         finite(i) ? " has weights too large for the f16 scale of "
                                   : " has weights that are not finite for ",
                         name_of(block));
  return bytes;
}

}  // namespace gpt::ops
