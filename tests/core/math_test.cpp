// The double-precision functions against the long double ones of the C library.
#include "gpt/core/math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace gpt {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// |value - exact| in units of the last place of the exact result.
double error_in_ulp(double value, long double exact) {
  const auto rounded = static_cast<double>(exact);
  if (std::isinf(rounded) || std::isinf(value)) return value == rounded ? 0.0 : kInfinity;
  const double ulp = std::fabs(rounded) < 0x1p-1022 ? 0x1p-1074 : std::ldexp(1.0, std::ilogb(rounded) - 52);
  return static_cast<double>(std::fabs(static_cast<long double>(value) - exact) /
                             static_cast<long double>(ulp));
}

constexpr int kArguments = 200'000;

TEST(Math, ExpIsWithinTwoUlp) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> wide(-745.0, 709.7), narrow(-1.0, 1.0);
  double worst = 0;
  for (int i = 0; i < kArguments; ++i) {
    for (const double x : {wide(random), narrow(random), std::ldexp(narrow(random), -(i % 60))})
      worst = std::max(worst, error_in_ulp(math::exp(x), std::exp(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 2.0);
}

TEST(Math, ExpAtItsLimits) {
  EXPECT_EQ(math::exp(0.0), 1.0);
  EXPECT_EQ(math::exp(-0.0), 1.0);
  EXPECT_EQ(math::exp(kInfinity), kInfinity);
  EXPECT_EQ(math::exp(-kInfinity), 0.0);
  EXPECT_EQ(math::exp(710.0), kInfinity);
  EXPECT_EQ(math::exp(-746.0), 0.0);
  EXPECT_LT(error_in_ulp(math::exp(709.782), std::exp(709.782L)), 1e4);  // not infinity yet
  EXPECT_LE(error_in_ulp(math::exp(-745.1), std::exp(static_cast<long double>(-745.1))), 2.0);
  EXPECT_LE(error_in_ulp(math::exp(-708.5), std::exp(static_cast<long double>(-708.5))), 2.0);
  EXPECT_TRUE(std::isnan(math::exp(std::nan(""))));
}

TEST(Math, LogIsWithinTwoUlp) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> near_one(0.5, 2.0), tiny(-1.0, 1.0);
  double worst = 0;
  for (int i = 0; i < kArguments; ++i) {
    const auto any = std::bit_cast<double>(random() % 0x7ff0000000000000u);  // subnormals too
    for (const double x : {any == 0 ? 1.0 : any, near_one(random), 1.0 + std::ldexp(tiny(random), -(i % 52))})
      worst = std::max(worst, error_in_ulp(math::log(x), std::log(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 2.0);
}

TEST(Math, LogAtItsLimits) {
  EXPECT_EQ(math::log(1.0), 0.0);
  EXPECT_EQ(math::log(0.0), -kInfinity);
  EXPECT_EQ(math::log(-0.0), -kInfinity);
  EXPECT_EQ(math::log(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(math::log(-1.0)));
  EXPECT_TRUE(std::isnan(math::log(-kInfinity)));
  EXPECT_TRUE(std::isnan(math::log(std::nan(""))));
  EXPECT_LE(error_in_ulp(math::log(0x1p-1074), std::log(0x1p-1074L)), 2.0);
  EXPECT_LE(error_in_ulp(math::log(std::numeric_limits<double>::max()),
                         std::log(static_cast<long double>(std::numeric_limits<double>::max()))),
            2.0);
}

// cos(2 pi x) with the turn taken away exactly, so that only the last step rounds.
long double exact_cos_2pi(double x) {
  constexpr long double kPi = 3.14159265358979323846264338327950288L;
  const auto turn = static_cast<long double>(x) - std::rint(static_cast<long double>(x));  // in [-1/2, 1/2]
  const long double t = std::fabs(turn);
  return t > 0.125L && t < 0.375L ? std::sin(2 * kPi * (0.25L - t)) : std::cos(2 * kPi * t);
}

TEST(Math, CosOfTurnsIsWithinTwoUlp) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> unit(0.0, 1.0), wide(-1e6, 1e6), tiny(-1.0, 1.0);
  double worst = 0;
  for (int i = 0; i < kArguments; ++i) {
    const double near_zero_of_cos = 0.25 + std::ldexp(tiny(random), -2 - i % 48);
    for (const double x : {unit(random), wide(random), near_zero_of_cos})
      worst = std::max(worst, error_in_ulp(math::cos_2pi(x), exact_cos_2pi(x)));
  }
  EXPECT_LT(worst, 2.0);
}

TEST(Math, CosOfQuarterTurnsIsExact) {
  for (const double whole : {0.0, 1.0, -3.0, 5e14}) {
    EXPECT_EQ(math::cos_2pi(whole), 1.0);
    EXPECT_EQ(math::cos_2pi(whole + 0.25), 0.0);
    EXPECT_EQ(math::cos_2pi(whole + 0.5), -1.0);
    EXPECT_EQ(math::cos_2pi(whole - 0.25), 0.0);
  }
}

}  // namespace
}  // namespace gpt
