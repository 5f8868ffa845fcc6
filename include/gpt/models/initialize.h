// Weights to begin a training with.
#pragma once

#include <cstdint>

#include "gpt/models/gpt2.h"

namespace gpt {

/// Gives a network the random weights of transformers' GPT2PreTrainedModel._init_weights, as float32: matrices normal
/// with the standard deviation initializer_range, those of c_proj with initializer_range / sqrt(2 n_layer); biases 0; layer
/// norms 1 and 0. They depend on the configuration and the seed alone. Throws MemoryError.
void initialize(Gpt2& network, std::uint64_t seed);

}  // namespace gpt
