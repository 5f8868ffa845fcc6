// What a cache holds, whatever its pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt/nn/kv_cache.h"

namespace gpt::test {

/// The bytes of a cache that belong to its first `length` tokens, in one order.
inline std::vector<std::byte> content_of(const nn::KvCache& cache, std::int64_t length) {
  std::vector<std::byte> bytes;
  const nn::KvShape& shape = cache.shape();
  for (std::int64_t l = 0; l < shape.n_layer; ++l) {
    const ops::KvLayer layer = cache.layer(l);
    const auto element = static_cast<std::int64_t>(size_of(layer.dtype));
    const std::int64_t row = ops::padded_head_dim(shape.head_dim);
    for (std::int64_t h = 0; h < shape.heads(l); ++h)
      for (std::int64_t t = 0; t < length; ++t) {
        const std::byte* const page = layer.pages[t / layer.page_tokens];
        const auto append = [&](std::int64_t offset, std::int64_t size) {
          bytes.insert(bytes.end(), page + offset, page + offset + size);
        };
        const std::int64_t within = t % layer.page_tokens, token = h * layer.page_tokens + within;
        const std::int64_t group = (token - within % ops::kKeyGroup) * row, lane = within % ops::kKeyGroup;
        for (std::int64_t d = 0; d < row; ++d)
          append(layer.keys + (group + d * ops::kKeyGroup + lane) * element, element);
        append(layer.values + token * row * element, row * element);
        if (layer.dtype != DType::i8) continue;
        append(layer.key_scales + token * 4, 4);
        append(layer.value_scales + token * 4, 4);
      }
  }
  return bytes;
}

/// Writes a pattern that depends on `seed` over all of a cache's pages.
inline void fill(const nn::KvCache& cache, unsigned seed) {
  for (const nn::KvPage& page : cache.pages())
    for (std::size_t i = 0; i < cache.nbytes() / cache.pages().size(); ++i)
      page.get()[i] = static_cast<std::byte>((seed = seed * 1103515245u + 12345u) >> 16);
}

}  // namespace gpt::test
