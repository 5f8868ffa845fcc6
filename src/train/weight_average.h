// A moving average of the weights, beside those that are learned.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/train/parameters.h"

namespace gpt {

/// See TrainingArguments::ema_decay and swa_start.
class WeightAverage {
 public:
  /// Keeps nothing where decay and swa_begin, the update that begins the mean, are 0. The parameters must outlive it. Throws MemoryError.
  WeightAverage(Parameters& parameters, double decay, std::int64_t swa_begin = 0);

  bool is_on() const noexcept { return !tensors_.empty(); }
  /// Takes the weights after update `step` in; the first are the average, and so are all up to those that begin a mean.
  void update(std::int64_t step);
  /// float32, in the order of the parameters; none when it is off.
  std::vector<Tensor>& tensors() noexcept { return tensors_; }
  /// Leaves the average in the network, in the place of the weights.
  void keep() noexcept { parameters_.exchange(tensors_); }

  /// The network has the average while it lives.
  class InNetwork {
   public:
    explicit InNetwork(WeightAverage& average) noexcept : average_(average) { average_.keep(); }
    ~InNetwork() { average_.keep(); }
    InNetwork(const InNetwork&) = delete;
    InNetwork& operator=(const InNetwork&) = delete;

   private:
    WeightAverage& average_;
  };

 private:
  Parameters& parameters_;
  double decay_;
  std::int64_t swa_begin_;
  std::vector<Tensor> tensors_;
};

}  // namespace gpt
