// The network that bench_model measures, and what counts of its work (README.md has the definitions).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gpt/models/gpt2.h"

namespace gpt::bench {

/// GPT-2 124M; with --smoke a network of the same form with 2 layers, 64 features and 211 tokens.
Gpt2Config config();

/// config() with random weights in a format as Format spells it. Kept for the next benchmark. Throws ArgumentError.
std::shared_ptr<const Gpt2> random_network(const std::string& format);

/// Multiplications and additions of the matrix products: `rows` tokens, and the logits of `logits_rows` of them, for which alone the
/// last block does more than make queries, keys and values.
double matrix_ops(const Gpt2Config& config, std::int64_t rows, std::int64_t logits_rows);
/// Of attention: `tokens` more of a sequence that has `past`, and the logits of the last `logits_rows` of them.
double attention_ops(const Gpt2Config& config, std::int64_t past, std::int64_t tokens,
                     std::int64_t logits_rows);

/// The bytes of all parameters that a forward pass reads: all but the position embedding.
double weight_bytes(const Gpt2& network);

/// The type of a cache's elements, as names spell it: f32, f16, bf16, int8. Throws ArgumentError.
DType cache_dtype(const std::string& text);
/// The bytes of the keys and values of so many tokens, with their scales.
double kv_bytes(const Gpt2Config& config, std::int64_t tokens, DType dtype);

/// Where the largest matrix lies.
const void* largest_matrix(const Gpt2& network);

}  // namespace gpt::bench
