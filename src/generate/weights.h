// The exponentials behind every probability of the sampler.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "gpt/core/math.h"

namespace gpt::generate {

inline constexpr double kDropped = -std::numeric_limits<double>::infinity();

/// weights[i] = e^(scores[i] - max scores), 0 for a dropped score; returns their sum, added in order.
/// `weights` may be `scores`.
inline double exp_weights(std::span<const double> scores, std::span<double> weights) noexcept {
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    weights[i] = scores[i] == kDropped ? 0.0 : math::exp(scores[i] - max);
    sum += weights[i];
  }
  return sum;
}

}  // namespace gpt::generate
