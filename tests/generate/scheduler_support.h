// What the scheduler's tests share.
#pragma once

#include <cstddef>

#include "generate/tiny_model.h"

namespace gpt::test {

// Bytes of a page of 16 tokens of the tiny model: 2 layers, 2 heads, keys and values of 16 elements.
inline constexpr std::size_t kPage = std::size_t{2} * 2 * 2 * 16 * 16 * 4;

// A larger context than the tiny model's, so that requests take several pages.
inline Gpt2Config long_config() {
  Gpt2Config config = tiny_config();
  config.n_positions = 128;
  return config;
}

}  // namespace gpt::test
