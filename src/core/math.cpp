#include "gpt/core/math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace gpt::math {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// ln 2 in two parts; the low bits of the first are zero, so that n * kLn2High is exact for |n| < 2^11.
constexpr double kLn2High = 0x1.62e42fee00000p-1;
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kRoundToInteger = 0x1.8p52;  // x + this - this rounds to nearest even for |x| < 2^51

double power_of_two(std::int64_t exponent) noexcept {  // -1022 <= exponent <= 1023
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

}  // namespace

double sqrt(double x) noexcept { return std::sqrt(x); }

double exp(double x) noexcept {
  if (x != x) return x;
  if (x > 709.79) return kInfinity;
  if (x < -745.14) return 0.0;
  const double n = (x * 0x1.71547652b82fep0 + kRoundToInteger) - kRoundToInteger;
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln 2 / 2
  double p = 1.0 / 6227020800.0;                      // Taylor series up to r^13 / 13!: error below 2^-57
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = (p * r * r + r) + 1.0;
  const auto whole = static_cast<std::int64_t>(n);
  const std::int64_t half =
      whole / 2;  // two steps, so that subnormal results round once and 2^1024 never occurs
  return (p * power_of_two(half)) * power_of_two(whole - half);
}

double log(double x) noexcept {
  if (x != x || x == kInfinity) return x;
  if (x < 0.0) return kNaN;
  if (x == 0.0) return -kInfinity;
  std::int64_t exponent = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    exponent = -54;
  }
  const auto bits = std::bit_cast<std::uint64_t>(x);
  exponent += static_cast<std::int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);  // in [1, 2)
  if (m > 0x1.6a09e667f3bcdp0) {
    m *= 0.5;
    exponent += 1;
  }
  // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172; the series up to s^23.
  const double f = m - 1.0;
  const double s = f / (m + 1.0);
  const double z = s * s;
  double p = 2.0 / 23.0;
  p = p * z + 2.0 / 21.0;
  p = p * z + 2.0 / 19.0;
  p = p * z + 2.0 / 17.0;
  p = p * z + 2.0 / 15.0;
  p = p * z + 2.0 / 13.0;
  p = p * z + 2.0 / 11.0;
  p = p * z + 2.0 / 9.0;
  p = p * z + 2.0 / 7.0;
  p = p * z + 2.0 / 5.0;
  p = p * z + 2.0 / 3.0;
  // 2s = f - s f exactly in the reals: the large part f carries no error.
  const double series = s * (z * p - f);
  const auto e = static_cast<double>(exponent);
  return e * kLn2High + (f + (series + e * kLn2Low));
}

double cos_2pi(double x) noexcept {
  const double quarters = (4.0 * x + kRoundToInteger) - kRoundToInteger;
  const double t = (x - 0.25 * quarters) * 6.283185307179586;  // |t| <= pi / 4
  const double z = t * t;
  double c = -1.0 / 6402373705728000.0;  // cos: z^9 / 18!
  c = c * z + 1.0 / 20922789888000.0;
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = c * z + 1.0;
  double s = 1.0 / 355687428096000.0;  // sin: t z^8 / 17!
  s = s * z - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = s * z * t + t;
  switch (static_cast<std::int64_t>(quarters) & 3) {
    case 0: return c;
    case 1: return -s;
    case 2: return -c;
    default: return s;
  }
}

}  // namespace gpt::math
