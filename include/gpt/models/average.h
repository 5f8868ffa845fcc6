// One model of several: the mean of their weights.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/models/classifier.h"
#include "gpt/models/gpt2.h"

namespace gpt {

/// Gives `network` the mean of its weights and those of the others, each added up in double and rounded once ("model soups", Wortsman et
/// al., arXiv 2203.05482: uniform; checkpoints of one run, or of runs that began with the same weights). It is float32 then. Throws
/// ArgumentError where there are no others, or their configuration gives other shapes or heads, or computes something else with the
/// weights; UnsupportedError for an adapter, and a matrix that is packed or quantized.
void average_weights(Gpt2& network, std::span<const Gpt2* const> others);

/// The same of classifiers with the same labels in the same order, and of their heads. Throws likewise.
void average_weights(Classifier& classifier, std::span<const Classifier* const> others);

}  // namespace gpt
