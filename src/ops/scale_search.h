// The search for the scales, and zero points, of least error: the inside of quantize.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "gpt/core/dtype.h"
#include "gpt/ops/weight.h"

namespace gpt::ops {

inline constexpr std::size_t kLanes = static_cast<std::size_t>(kPanelWidth);
using Floats = std::array<float, kLanes>;
using Doubles = std::array<double, kLanes>;

/// One group of inputs of the 16 outputs of a panel: all are searched at once, lane by lane.
struct Group {
  const float* weights;     // [count, 16]
  const float* importance;  // [count], or null
  std::int64_t count;
};

/// w = scale * level, level an integer in [low, high] (the q - zero of the format).
struct Scaling {
  Floats scale, low, high;
};

/// The level of a weight. Adding 1.5 * 2^23 leaves no bits behind the point, so that the addition itself rounds to the
/// nearest integer, ties to even.
inline float level_of(float w, float scale, float low, float high) noexcept {
  constexpr float kRound = 12582912.0f;
  float level = w / scale;
  level = level < low ? low : level;
  level = level > high ? high : level;
  return (level + kRound) - kRound;
}

struct Extremes {
  Floats least{}, most{};  // 0 among them
};

Extremes extremes_of(const Group& group) noexcept;

/// The scale that brings the ends of the range of weights to the ends of the range of levels.
float plain_scale(const QuantizationFormat& format, float least, float most) noexcept;

/// The best scaling of a group, its scales normal numbers of scale_dtype, which the plain ones must be for f16. A lane of
/// zeros alone gets the scale 1, of which all levels are 0.
Scaling best_scaling(const Group& group, const QuantizationFormat& format, DType scale_dtype) noexcept;

}  // namespace gpt::ops
