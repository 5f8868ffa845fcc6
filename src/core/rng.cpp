#include "gpt/core/rng.h"

#include "gpt/core/math.h"

namespace gpt {

double CounterRng::normal(std::uint64_t index) const noexcept {
  const auto r = block(index);
  const double u = to_unit(r[0] | (static_cast<std::uint64_t>(r[1]) << 32));
  const double v = to_unit(r[2] | (static_cast<std::uint64_t>(r[3]) << 32));
  return math::sqrt(-2.0 * math::log(1.0 - u)) * math::cos_2pi(v);  // 1 - u is in (0, 1]
}

}  // namespace gpt
