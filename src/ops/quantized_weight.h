// Quantized matrices element by element: where q, scales and zero points lie in the panels (gpt/ops/weight.h).
#pragma once

#include <cstdint>
#include <type_traits>

#include "gpt/ops/weight.h"

namespace gpt::ops {

/// A quantized matrix whose values, scales and zero points are 0, to be filled. Throws MemoryError, ShapeError.
Weight empty_quantized(std::int64_t in, std::int64_t out, const QuantizationFormat& format,
                       DType scale_dtype);

/// Element access to a quantized matrix that outlives it. W is Weight or const Weight.
template <class W>
class BasicQuantizedElements {
  template <class T>
  using Like = std::conditional_t<std::is_const_v<W>, const T, T>;

 public:
  explicit BasicQuantizedElements(W& w)
      : steps_((w.in + kQuantizedStep - 1) / kQuantizedStep),
        groups_(groups_of(w.in, w.group_size)),
        int8_(w.format() == WeightFormat::int8 ? w.values.template data<std::int8_t>() : nullptr),
        int4_(w.format() == WeightFormat::int4 ? w.values.template data<std::uint8_t>() : nullptr) {}

  /// The place of a group's scale and zero point.
  std::int64_t group(std::int64_t g, std::int64_t n) const noexcept {
    return (n / kPanelWidth * groups_ + g) * kPanelWidth + n % kPanelWidth;
  }

  /// q of input k to output n.
  int get(std::int64_t k, std::int64_t n) const noexcept {
    return int8_ != nullptr ? int8_[int8_at(k, n)] : int4_[int4_at(k, n)] >> shift(k) & 15;
  }
  /// Sets a q that was 0.
  void set(std::int64_t k, std::int64_t n, int q) const noexcept {
    if (int8_ != nullptr)
      int8_[int8_at(k, n)] = static_cast<std::int8_t>(q);
    else
      int4_[int4_at(k, n)] = static_cast<std::uint8_t>(int4_[int4_at(k, n)] | q << shift(k));
  }

 private:
  static int shift(std::int64_t k) noexcept { return k % kQuantizedStep < 4 ? 0 : 4; }
  std::int64_t int8_at(std::int64_t k, std::int64_t n) const noexcept {
    return ((n / kPanelWidth * 4 * steps_ + k / 2) * kPanelWidth + n % kPanelWidth) * 2 + k % 2;
  }
  std::int64_t int4_at(std::int64_t k, std::int64_t n) const noexcept {
    return ((n / kPanelWidth * steps_ + k / kQuantizedStep) * kPanelWidth + n % kPanelWidth) * 4 + k % 4;
  }

  std::int64_t steps_;
  std::int64_t groups_;
  Like<std::int8_t>* int8_;
  Like<std::uint8_t>* int4_;
};

using QuantizedElements = BasicQuantizedElements<Weight>;
using ConstQuantizedElements = BasicQuantizedElements<const Weight>;

}  // namespace gpt::ops
