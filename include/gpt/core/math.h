// Elementary functions in double precision that give the same bits everywhere: only IEEE-exact operations, in
// one order, compiled in the library (a caller's compiler flags cannot change them). Errors are below 2 ulp. They round as the
// thread that calls them does, to nearest unless it has been told otherwise.
#pragma once

namespace gpt::math {

double exp(double x) noexcept;      // 0 below -745.14, infinity above 709.79, NaN for NaN
double log(double x) noexcept;      // -infinity for 0, NaN for x < 0
double cos_2pi(double x) noexcept;  // cos(2 pi x) for |x| < 2^49
double sqrt(double x) noexcept;

}  // namespace gpt::math
