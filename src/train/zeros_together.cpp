#include "train/zeros_together.h"

#include <cstddef>
#include <limits>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

/// Up to where the next may begin. Throws MemoryError for what no memory can hold.
std::size_t room_for(const Shape& shape) {
  const auto n = static_cast<std::size_t>(shape.numel());
  if (n > std::numeric_limits<std::size_t>::max() / 4 / sizeof(float))
    fail<MemoryError>("tensor", "shape ", shape.to_string(), " does not fit into memory");
  return (n * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::vector<Tensor> zeros_together(std::span<const Shape> shapes) {
  std::size_t size = 0;
  for (const Shape& shape : shapes) {
    const std::size_t room = room_for(shape);
    if (room > std::numeric_limits<std::size_t>::max() - size)
      fail<MemoryError>("tensor", shapes.size(), " shapes do not fit into memory together");
    size += room;
  }
  const std::shared_ptr<std::byte> memory = allocate_zeroed(size, "tensor");
  std::vector<Tensor> tensors;
  std::byte* place = memory.get();
  for (const Shape& shape : shapes) {
    tensors.push_back(Tensor::borrow(memory, place, shape, DType::f32));
    place += room_for(shape);
  }
  return tensors;
}

}  // namespace gpt
