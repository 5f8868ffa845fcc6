// The exponentials behind every probability of the sampler.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "gpt/core/math.h"

namespace gpt::generate {

inline constexpr double kDropped = -std::numeric_limits<double>::infinity();

inline double max_of(std::span<const double> scores) noexcept {
  return *std::max_element(scores.begin(), scores.end());
}

/// weights[i] = e^(scores[i] - max scores), 0 for a dropped score; returns their sum, added in order.
/// `weights` may be `scores`.
inline double exp_weights(std::span<const double> scores, std::span<double> weights) noexcept {
  const double max = max_of(scores);
  double sum = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    weights[i] = scores[i] == kDropped ? 0.0 : math::exp(scores[i] - max);
    sum += weights[i];
  }
  return sum;
}

/// The first index at which the running sum of the weights exceeds u times their sum, u in [0, 1). One of weight 0 is never
/// found.
inline std::size_t invert_cumulative(std::span<const double> weights, double sum, double u) noexcept {
  const double target = u * sum;
  double cumulative = 0.0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0.0) continue;
    cumulative += weights[i];
    last = i;
    if (cumulative > target) break;
  }
  return last;  // the last of weight above 0 when u * sum was rounded up to the sum
}

/// log sum e^scores[i]. Not all may be dropped.
template <class T>
double log_sum_exp(std::span<const T> scores) noexcept {
  const auto max = static_cast<double>(*std::max_element(scores.begin(), scores.end()));
  double sum = 0.0;
  for (const T score : scores) sum += math::exp(static_cast<double>(score) - max);
  return max + math::log(sum);
}

}  // namespace gpt::generate
