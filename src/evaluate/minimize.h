// The minimum of a smooth convex function of many variables.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace gpt {

/// Returns the value at x, and leaves the gradient there in `gradient`.
using SmoothFunction = std::function<double(std::span<const double> x, std::span<double> gradient)>;

/// L-BFGS (Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989) with the last ten updates and
/// steps halved until they descend enough (Armijo). Ends where the gradient's largest element is below 1e-6, no step descends, or after
/// max_iterations. Throws what the function throws.
void minimize(const SmoothFunction& f, std::vector<double>& x, std::int64_t max_iterations);

}  // namespace gpt
