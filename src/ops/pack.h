// Packing the matrices of a network next to each other.
#pragma once

#include "core/memory.h"
#include "gpt/ops/weight.h"

namespace gpt::ops {

/// As pack(weight), in memory from the pool; a matrix that is in panels already is copied there. Throws MemoryError,
/// ShapeError.
Weight pack(const Weight& weight, PagePool& pool);

}  // namespace gpt::ops
