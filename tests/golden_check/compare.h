// The distance between what the library computed and what is expected. A NaN makes the distance NaN, which no
// tolerance admits; so does infinity against infinity, which no quantity here may be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>

#include "gpt/core/error.h"
#include "report.h"

namespace gpt::golden {

/// The larger and the smaller of two, and NaN where either is: std::max and std::min drop one of the two NaN.
inline double largest_of(double a, double b) { return std::isnan(a) || a > b ? a : b; }
inline double smallest_of(double a, double b) { return std::isnan(a) || a < b ? a : b; }

/// The largest |found - expected| as it is collected, and where it was met.
class LargestError {
 public:
  void add(double found, double expected, std::size_t index) {
    const double error = std::abs(found - expected);
    if (std::isnan(error_) || error <= error_) return;  // the first NaN stays
    error_ = largest_of(error_, error);
    index_ = index;
    found_ = found;
    expected_ = expected;
  }
  Outcome within(double tolerance) const {
    return Outcome::compared(error_, tolerance,
                             concat("element ", index_, " is ", found_, ", expected ", expected_));
  }

 private:
  double error_ = 0;
  std::size_t index_ = 0;
  double found_ = 0;
  double expected_ = 0;
};

/// Element by element; `counts(i)` says whether element i is to be compared. The spans are equally long.
template <class Found, class Expected>
Outcome compare_reals(std::span<const Found> found, std::span<const Expected> expected, double tolerance,
                      const std::function<bool(std::size_t)>& counts = {}) {
  LargestError error;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!counts || counts(i)) error.add(static_cast<double>(found[i]), static_cast<double>(expected[i]), i);
  return error.within(tolerance);
}

inline Outcome compare_real(double found, double expected, double tolerance) {
  return Outcome::compared(std::abs(found - expected), tolerance,
                           concat("is ", found, ", expected ", expected));
}

/// Integers, exact: the error is the number of positions that differ, missing and surplus ones included.
template <class Found, class Expected>
Outcome compare_ints(std::span<const Found> found, std::span<const Expected> expected) {
  const std::size_t common = std::min(found.size(), expected.size());
  std::size_t wrong = std::max(found.size(), expected.size()) - common;
  std::string detail =
      wrong > 0 ? concat("has ", found.size(), " elements, expected ", expected.size()) : std::string();
  for (std::size_t i = common; i-- > 0;)
    if (static_cast<std::int64_t>(found[i]) != static_cast<std::int64_t>(expected[i])) {
      ++wrong;
      detail = concat("element ", i, " is ", found[i], ", expected ", expected[i]);
    }
  return Outcome::exact(static_cast<std::int64_t>(wrong), std::move(detail));
}

}  // namespace gpt::golden
