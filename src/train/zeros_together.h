// Tensors of the same life, side by side in memory.
#pragma once

#include <span>
#include <vector>

#include "gpt/core/tensor.h"

namespace gpt {

/// Zeroed float32 tensors of these shapes, each right behind the one before: so they share pages of 2 MiB, where the system
/// gives them, instead of each having a rest in small ones. The memory is given back with the last of them. Throws MemoryError.
std::vector<Tensor> zeros_together(std::span<const Shape> shapes);

}  // namespace gpt
