// What the readers and writers of GGUF's blocks share.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "gpt/core/dtype.h"
#include "gpt/core/error.h"
#include "gpt/ops/gguf_blocks.h"
#include "ops/checks.h"

namespace gpt::ops {

inline unsigned byte_at(const std::byte* bytes, std::int64_t i) noexcept {
  return std::to_integer<unsigned>(bytes[i]);
}

/// A scale: little-endian, like all of GGUF.
inline Float16 read_f16(const std::byte* at) noexcept {
  Float16 d;
  d.bits = static_cast<std::uint16_t>(byte_at(at, 0) | byte_at(at, 1) << 8);
  return d;
}

inline void write_f16(std::byte* at, Float16 d) noexcept {
  at[0] = static_cast<std::byte>(d.bits & 0xff);
  at[1] = static_cast<std::byte>(d.bits >> 8);
}

/// Throws UnsupportedError where a row's inputs do not fill whole blocks.
inline void require_whole_blocks(std::string_view what, GgufBlock block, std::int64_t in) {
  if (in % inputs_of(block) != 0)
    fail<UnsupportedError>(what, "has ", in, " inputs, which do not fill whole blocks of ", inputs_of(block));
}

/// Where the f16 numbers of a block are: one or two of them, side by side.
struct BlockScales {
  std::int64_t at, count;
};
inline BlockScales scales_in(GgufBlock block) noexcept {
  switch (block) {
    case GgufBlock::kQ8_0:
    case GgufBlock::kQ4_0:
    case GgufBlock::kQ5_0: return {0, 1};
    case GgufBlock::kQ6_K: return {208, 1};
    default: return {0, 2};
  }
}

/// Throws as from_gguf says.
inline void check_blocks(std::string_view what, GgufBlock block, std::span<const std::byte> bytes,
                         std::int64_t in, std::int64_t out) {
  require_whole_blocks(what, block, in);
  if (bytes.size() != gguf_size(block, in, out))
    fail<ShapeError>(what, "has ", bytes.size(), " bytes, expected ", gguf_size(block, in, out), " of ",
                     name_of(block), " for ", Shape{out, in}.to_string());
  const std::int64_t blocks = in / inputs_of(block), size = bytes_of(block);
  const auto [at, count] = scales_in(block);
  for (std::int64_t i = 0; i < out * blocks; ++i)
    for (std::int64_t k = 0; k < count; ++k)
      if (!std::isfinite(static_cast<float>(read_f16(bytes.data() + i * size + at + 2 * k))))
        fail<FormatError>(what, "row ", i / blocks, ", block ", i % blocks, " of ", name_of(block),
                          " has a scale that is not finite");
}

}  // namespace gpt::ops
