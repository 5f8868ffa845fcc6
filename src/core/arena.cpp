#include "gpt/core/arena.h"

#include <algorithm>
#include <limits>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {

TensorView Arena::take(const Shape& shape, DType dtype) {
  const auto n = static_cast<std::size_t>(shape.numel());
  if (n > std::numeric_limits<std::size_t>::max() / 4 / size_of(dtype))
    fail<MemoryError>("arena", "shape ", shape.to_string(), " does not fit into memory");
  const std::size_t size = (n * size_of(dtype) + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && blocks_[block_].size - used_ < size) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    constexpr std::size_t kSmallestBlock = std::size_t{1} << 16;
    const std::size_t block = std::max({size, capacity(), kSmallestBlock});
    with_memory_errors("arena", [&] { blocks_.push_back({allocate_bytes(block, "arena"), block}); });
  }
  std::byte* data = blocks_[block_].memory.get() + used_;
  used_ += size;
  taken_ += size;
  peak_ = std::max(peak_, taken_);
  return {data, dtype, shape};
}

void Arena::reset() {
  block_ = 0;
  used_ = 0;
  taken_ = 0;
  if (blocks_.size() <= 1) return;
  const std::size_t total = capacity();
  blocks_.clear();  // before allocating, so that the old and the new never coexist
  blocks_.push_back({allocate_bytes(total, "arena"), total});
}

std::size_t Arena::capacity() const noexcept {
  std::size_t total = 0;
  for (const Block& b : blocks_) total += b.size;
  return total;
}

}  // namespace gpt
