#include "gpt/core/rng.h"

#include "gpt/core/math.h"

namespace gpt {

double CounterRng::normal(std::uint64_t index) const noexcept {
  const double u = uniform(index);
  const double v = second_uniform(index);
  return math::sqrt(-2.0 * math::log(1.0 - u)) * math::cos_2pi(v);  // 1 - u is in (0, 1]
}

}  // namespace gpt
