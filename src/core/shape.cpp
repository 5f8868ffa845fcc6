#include "gpt/core/shape.h"

#include <limits>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {

Shape::Shape(std::span<const std::int64_t> extents) {
  if (extents.size() > kMaxRank)
    fail<ShapeError>("shape", "rank ", extents.size(), " is above the limit of ", kMaxRank);
  for (const std::int64_t extent : extents) {
    if (extent < 0) fail<ShapeError>("shape", "extent ", extent, " is negative");
    if (extent != 0 && numel_ > std::numeric_limits<std::int64_t>::max() / extent)
      fail<ShapeError>("shape", "the number of elements overflows at extent ", extent);
    extents_[static_cast<std::size_t>(rank_++)] = extent;
    numel_ *= extent;
  }
}

std::string Shape::to_string() const try {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) out += concat(i > 0 ? ", " : "", (*this)[i]);
  return out + "]";
} catch (...) {
  rethrow_with_memory_errors("shape");
}

}  // namespace gpt
