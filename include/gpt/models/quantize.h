// Quantizing a whole network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"
#include "gpt/ops/weight.h"

namespace gpt {

struct QuantizeProgress {
  std::string_view matrix;  // the one that is done; empty while the calibration text is read
  std::int64_t done = 0;    // matrices, or tokens of the calibration text
  std::int64_t total = 0;
};

struct QuantizeOptions {
  ops::QuantizationFormat format = {};  // int8 in groups of 64
  /// Whether the token embedding (with it a tied head) and an untied head are quantized too.
  bool quantize_embeddings = true;
  /// Other formats for single matrices, by their names ("h.0.attn.c_attn.weight"); without a value the matrix stays as it
  /// is. They go before quantize_embeddings.
  std::vector<std::pair<std::string, std::optional<ops::QuantizationFormat>>> overrides = {};
  /// A text like those the network will see: errors are then weighed by the mean square of the inputs that they meet
  /// in it (ops::quantize, importance). Some thousand tokens are enough. Cut into sequences of n_positions.
  std::span<const TokenId> calibration = {};
  std::function<void(const QuantizeProgress&)> on_progress = {};  // in the default floating-point environment
  std::stop_token stop = {};  // asked before every group of weights, and every product of the calibration
};

/// What became of one matrix.
struct QuantizedMatrix {
  std::string name;
  ops::QuantizationFormat format;
  std::size_t bytes_before = 0;
  std::size_t bytes_after = 0;
  double relative_error = 0;  // sqrt(sum (w - quantized)^2 / sum w^2)
};

/// Quantizes the matrices of a network; position embeddings stay as they are unless overrides name them, biases and layer norms
/// always, and so do matrices that are quantized already. Returns what was done, in the order of Gpt2::visit.
/// Throws ArgumentError (a format that does not exist, an override that names no matrix, calibration tokens outside the
/// vocabulary), NumericError naming the first parameter that is not finite, MemoryError, CancelledError; the network is then
/// what it was.
std::vector<QuantizedMatrix> quantize(Gpt2& network, const QuantizeOptions& options);

}  // namespace gpt
