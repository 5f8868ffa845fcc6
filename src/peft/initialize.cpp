#include "peft/initialize.h"

#include "core/float_environment.h"
#include "core/normal.h"
#include "gpt/core/rng.h"

namespace gpt::peft {
namespace {

template <class Draw>
void fill(Tensor& tensor, const Draw& draw) {
  const DefaultFloatEnvironment environment;
  for (std::int64_t i = 0; i < tensor.numel(); ++i)
    tensor.data<float>()[i] = static_cast<float>(draw(static_cast<std::uint64_t>(i)));
}

}  // namespace

void fill_normal(Tensor& tensor, double deviation, std::uint64_t seed, std::uint64_t number) {
  const CounterRng rng(seed, kFirstStream + number);
  fill(tensor, [&](std::uint64_t i) { return deviation * normal_here(rng, i); });
}

void fill_uniform(Tensor& tensor, double bound, std::uint64_t seed, std::uint64_t number) {
  const CounterRng rng(seed, kFirstStream + number);
  fill(tensor, [&](std::uint64_t i) { return bound * (2 * rng.uniform(i) - 1); });
}

}  // namespace gpt::peft
