// The extents of a tensor.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace gpt {

/// Up to kMaxRank extents, kept inline so that making a view never allocates. Rank 0 is a scalar.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  /// Throws ShapeError on more than kMaxRank extents, a negative one, or a product that overflows 63 bits.
  Shape(std::initializer_list<std::int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const std::int64_t> extents);

  int rank() const noexcept { return rank_; }
  std::int64_t operator[](int axis) const noexcept { return extents_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const noexcept { return extents_.data(); }
  const std::int64_t* end() const noexcept { return extents_.data() + rank_; }

  /// Number of elements: the product of the extents (1 for a scalar).
  std::int64_t numel() const noexcept { return numel_; }

  /// "[2, 3]"
  std::string to_string() const;

  friend bool operator==(const Shape&, const Shape&) = default;  // unused extents stay 0

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  std::int64_t numel_ = 1;
  int rank_ = 0;
};

}  // namespace gpt
