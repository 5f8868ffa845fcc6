// Which parameters are learned in which update, and how fast.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gpt/train/adamw.h"
#include "gpt/train/parameters.h"
#include "gpt/train/trainer.h"

namespace gpt {

/// See TrainingArguments::layerwise_lr_decay and unfreeze_steps. A function of its arguments: a run that is resumed has the same.
class LearningPlan {
 public:
  /// `updates_of_epoch` says how many updates an epoch has. Throws ArgumentError for a factor of learning_rate_factor_of that is negative or
  /// not finite.
  LearningPlan(const Parameters& parameters, const TrainingArguments& arguments, std::int64_t n_layer,
               std::int64_t total_steps,
               const std::function<std::int64_t(std::int64_t epoch)>& updates_of_epoch);

  /// For AdamW::step, in the order of the parameters.
  std::span<const PartOfStep> parts() const noexcept { return parts_; }
  /// Whether a parameter is learned in the update after `step` others.
  bool learns(std::size_t parameter, std::int64_t step) const noexcept {
    return step >= parts_[parameter].first_step;
  }
  /// How many are.
  std::int64_t awake(std::int64_t step) const noexcept;

 private:
  std::vector<PartOfStep> parts_;
};

}  // namespace gpt
