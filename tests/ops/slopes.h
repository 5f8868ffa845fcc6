// Gradients against numerical ones: for L = loss(x), dL/dx is the slope of L between x - h and x + h, exact to h^2 and to the
// rounding of double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "gpt/core/tensor.h"

namespace gpt::test {

inline std::vector<double> doubles(const Tensor& t) {
  return {t.span<float>().begin(), t.span<float>().end()};
}

using Loss = std::function<double(const std::vector<double>& x)>;

/// Checks gradient[i] against the slope of `loss` in coordinate i of x, for some i. `roundings` bounds the error in units of a
/// float's rounding of the largest gradient.
inline void expect_slopes(const Tensor& x, const Tensor& gradient, const Loss& loss, double roundings) {
  std::vector<double> at = doubles(x);
  double largest = 0;
  for (const float g : gradient.span<float>()) largest = std::max(largest, std::abs(static_cast<double>(g)));
  const std::size_t stride =
      std::max<std::size_t>(1, at.size() / 97);  // a prime: all rows and columns get a turn
  for (std::size_t i = 0; i < at.size(); i += stride) {
    constexpr double h = 1e-4;
    const double middle = at[i];
    at[i] = middle + h;
    const double above = loss(at);
    at[i] = middle - h;
    const double slope = (above - loss(at)) / (2 * h);
    at[i] = middle;
    ASSERT_NEAR(gradient.span<float>()[i], slope,
                roundings * 0x1p-24 * largest + 1e-7 * std::abs(slope) + 1e-8)
        << "element " << i;
  }
}

}  // namespace gpt::test
