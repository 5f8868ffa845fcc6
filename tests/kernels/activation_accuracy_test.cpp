// The polynomials against double-precision libm.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "gpt/ops/activation.h"
#include "kernels/kernels.h"

namespace gpt::kernels {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

struct Formula {
  ops::Activation activation;
  std::function<double(double)> f;
};

const Formula kFormulas[] = {
    {ops::Activation::kNone, [](double x) { return x; }},
    {ops::Activation::kRelu, [](double x) { return std::max(x, 0.0); }},
    {ops::Activation::kSilu, [](double x) { return x * sigmoid(x); }},
    {ops::Activation::kTanh, [](double x) { return std::tanh(x); }},
    {ops::Activation::kQuickGelu, [](double x) { return x * sigmoid(1.702 * x); }},
    {ops::Activation::kGelu, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
    {ops::Activation::kGeluNew,
     [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }},
    {ops::Activation::kGeluFast,
     [](double x) { return 0.5 * x * (1 + std::tanh(0.7978845608 * x * (1 + 0.044715 * x * x))); }},
};

// A handful of float32 roundings of numbers up to |x| (and of the argument of e^z, z up to 2 |x| where it
// matters): 8 units in the last place of max(|x|, tiny) is what the formulas can lose.
TEST(Activations, AreWithinAFewRoundingsOfTheirFormula) {
  for (const Formula& formula : kFormulas) {
    for (double at = -12; at <= 12; at += 0.00137) {
      const auto x = static_cast<float>(at);
      float y = 0;
      table().activation(formula.activation, &x, &y, 0, 1);
      const double expected = formula.f(static_cast<double>(x));
      const double tolerance = 8 * 0x1p-24 * std::max(std::abs(at), 1e-3);
      ASSERT_NEAR(y, expected, tolerance) << name_of(formula.activation) << " of " << x;
    }
  }
}

// Against the formulas' central differences in double precision, whose own error is about h^2 and 2^-53 / h.
TEST(ActivationSlopes, AreWithinAFewRoundingsOfTheDerivative) {
  constexpr double kStep = 1e-5;
  for (const Formula& formula : kFormulas)
    for (double at = -12; at <= 12; at += 0.00731) {
      const auto x = static_cast<float>(at);
      if (std::abs(at) < 2 * kStep) continue;  // a corner of relu
      const float dy = 2.0f;
      float dx = 0;
      table().activation_backward(formula.activation, &x, &dy, &dx, 0, 1);
      const auto exact = static_cast<double>(x);
      const double expected = (formula.f(exact + kStep) - formula.f(exact - kStep)) / kStep;
      // The slope is a sum of terms up to 1 and up to |x z'| s (1 - s) <= 4, each with a handful of roundings.
      ASSERT_NEAR(dx, expected, 2 * (64 * 0x1p-24 + 1e-9)) << name_of(formula.activation) << " of " << x;
    }
}

TEST(ActivationSlopes, OfReluAtZeroIsZero) {
  const float x[] = {0.0f, -0.0f}, dy[] = {3.0f, 3.0f};
  float dx[] = {1.0f, 1.0f};
  table().activation_backward(ops::Activation::kRelu, x, dy, dx, 0, 2);
  EXPECT_EQ(dx[0], 0.0f);
  EXPECT_EQ(dx[1], 0.0f);
}

TEST(Activations, TanhKeepsItsRelativeAccuracyNearZero) {
  for (float x = 1e-30f; x < 1.0f; x *= 1.7f) {
    float y = 0;
    table().activation(ops::Activation::kTanh, &x, &y, 0, 1);
    const double expected = std::tanh(static_cast<double>(x));
    EXPECT_NEAR(y, expected, 4 * 0x1p-24 * expected) << x;
  }
}

}  // namespace
}  // namespace gpt::kernels
