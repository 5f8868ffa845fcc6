#include "gpt/models/initialize.h"

#include <algorithm>

#include "core/float_environment.h"
#include "core/memory.h"
#include "core/normal.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"

namespace gpt {

void initialize(Gpt2& network, std::uint64_t seed) try {
  const DefaultFloatEnvironment environment;
  const double deviation = static_cast<double>(network.config().initializer_range);
  const double deviation_of_projections =
      deviation / math::sqrt(2.0 * static_cast<double>(network.config().n_layer));
  std::uint64_t stream = std::uint64_t{15} << 60;  // far from those that training takes from the same seed
  network.visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    const CounterRng rng(seed, stream++);
    tensor = Tensor::zeros(shape);
    float* values = tensor.data<float>();
    if (shape.rank() < 2) {
      if (name.ends_with("weight")) std::fill_n(values, shape.numel(), 1.0f);
      return;
    }
    const double scale = name.ends_with("c_proj.weight") ? deviation_of_projections : deviation;
    constexpr std::int64_t kGrain = 4096;
    parallel_for(shape.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t i = begin; i < end; ++i)
        values[i] = static_cast<float>(scale * normal_here(rng, static_cast<std::uint64_t>(i)));
    });
  });
} catch (...) {
  rethrow_with_memory_errors("initialize");
}

}  // namespace gpt
