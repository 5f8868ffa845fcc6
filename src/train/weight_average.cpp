#include "train/weight_average.h"

#include <cstddef>

#include "gpt/ops/optimizer.h"

namespace gpt {

WeightAverage::WeightAverage(Parameters& parameters, double decay) : parameters_(parameters), decay_(decay) {
  if (decay == 0) return;
  for (const Parameter& p : parameters.all()) tensors_.push_back(Tensor::zeros(p.value.shape()));
}

void WeightAverage::update(std::int64_t step) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const Parameter& p = parameters_.all()[i];
    ops::average(p.value, tensors_[i], step == 1 ? 0 : decay_, p.rest);
  }
}

}  // namespace gpt
