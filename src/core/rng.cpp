#include "gpt/core/rng.h"

#include "core/float_environment.h"
#include "core/normal.h"
#include "gpt/core/math.h"

namespace gpt {

double normal_here(const CounterRng& rng, std::uint64_t index) noexcept {
  const double u = rng.uniform(index);
  const double v = rng.second_uniform(index);
  return math::sqrt(-2.0 * math::log(1.0 - u)) * math::cos_2pi(v);  // 1 - u is in (0, 1]
}

double CounterRng::normal(std::uint64_t index) const noexcept {
  const DefaultFloatEnvironment environment;
  return fixed_here(normal_here(*this, fixed_here(index)));
}

}  // namespace gpt
