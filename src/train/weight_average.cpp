#include "train/weight_average.h"

#include <algorithm>
#include <cstddef>

#include "gpt/ops/optimizer.h"

namespace gpt {

WeightAverage::WeightAverage(Parameters& parameters, double decay, std::int64_t swa_begin)
    : parameters_(parameters), decay_(decay), swa_begin_(swa_begin) {
  if (decay == 0 && swa_begin == 0) return;
  for (const Parameter& p : parameters.all()) tensors_.push_back(Tensor::zeros(p.value.shape()));
}

void WeightAverage::update(std::int64_t step) {
  double kept = step == 1 ? 0 : decay_;
  if (swa_begin_ > 0) {
    const auto before = static_cast<double>(std::max<std::int64_t>(0, step - swa_begin_));
    kept = before / (before + 1);
  }
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const Parameter& p = parameters_.all()[i];
    ops::average(p.value, tensors_[i], kept, p.rest);
  }
}

}  // namespace gpt
