// What all modules share. A module holds parameters and computes with ops; visit(prefix, f) shows every
// parameter to f(name, tensor, expected shape), which is how checkpoints are loaded and saved and parameters
// are counted.
#pragma once

#include <stop_token>

#include "gpt/core/arena.h"

namespace gpt::nn {

/// What a forward pass carries through the modules.
struct Context {
  Arena& arena;          // intermediate results
  std::stop_token stop;  // asked between layers
};

}  // namespace gpt::nn
