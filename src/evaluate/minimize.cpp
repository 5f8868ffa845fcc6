#include "evaluate/minimize.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

namespace gpt {
namespace {

using Vector = std::vector<double>;

double inner(const Vector& a, const Vector& b) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// y += factor x
void add_multiple(Vector& y, double factor, const Vector& x) noexcept {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

/// A step, and the change of the gradient over it.
struct Update {
  Vector step, change;
  double curvature;  // their inner product, above 0
};

/// The two loops over the updates: an estimate of the inverse Hessian times the gradient, negated.
Vector direction_of(const std::deque<Update>& updates, const Vector& gradient) {
  Vector d = gradient;
  std::vector<double> factors(updates.size());
  for (std::size_t i = updates.size(); i-- > 0;) {
    factors[i] = inner(updates[i].step, d) / updates[i].curvature;
    add_multiple(d, -factors[i], updates[i].change);
  }
  if (!updates.empty()) {
    const Update& last = updates.back();
    const double scale = last.curvature / inner(last.change, last.change);
    for (double& v : d) v *= scale;
  }
  for (std::size_t i = 0; i < updates.size(); ++i)
    add_multiple(d, factors[i] - inner(updates[i].change, d) / updates[i].curvature, updates[i].step);
  for (double& v : d) v = -v;
  return d;
}

}  // namespace

void minimize(const SmoothFunction& f, std::vector<double>& x, std::int64_t max_iterations) {
  constexpr double kFlat = 1e-6, kEnough = 1e-4;
  constexpr std::size_t kUpdates = 10;
  constexpr int kHalvings = 40;
  Vector gradient(x.size()), next_gradient(x.size());
  double value = f(x, gradient);
  std::deque<Update> updates;
  for (std::int64_t iteration = 0; iteration < max_iterations; ++iteration) {
    double steepest = 0;
    for (const double g : gradient) steepest = std::max(steepest, std::fabs(g));
    if (steepest < kFlat) return;
    const Vector direction = direction_of(updates, gradient);
    const double slope = inner(direction, gradient);
    double length = updates.empty() ? 1 / std::max(1.0, std::sqrt(inner(gradient, gradient))) : 1;
    Vector next;
    double next_value = 0;
    for (int halving = 0;; ++halving, length /= 2) {
      if (halving == kHalvings) return;
      next = x;
      add_multiple(next, length, direction);
      next_value = f(next, next_gradient);
      if (next_value <= value + kEnough * length * slope) break;
    }
    Update update{next, next_gradient, 0};
    add_multiple(update.step, -1, x);
    add_multiple(update.change, -1, gradient);
    update.curvature = inner(update.step, update.change);
    if (update.curvature > 0) {
      updates.push_back(std::move(update));
      if (updates.size() > kUpdates) updates.pop_front();
    }
    x = std::move(next);
    std::swap(gradient, next_gradient);
    value = next_value;
  }
}

}  // namespace gpt
