// What a training lowers instead of the loss of its text, on the command line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include <gpt/models/model.h>
#include <gpt/train/objectives.h>
#include <gpt/train/preference.h>

#include "command_line.h"
#include "robust_options.h"

namespace program {

/// TRL's names, and what is put around the objective.
struct ObjectiveRequest {
  std::optional<std::string> loss_type, teacher_model;
  std::optional<double> beta, simpo_gamma, distillation_alpha, distillation_temperature;
  RobustRequest robust;
  std::optional<std::string> ewc_file;
  std::optional<double> ewc_lambda;
  std::optional<std::int64_t> ewc_samples;

  bool learns_preferences() const noexcept { return loss_type.has_value(); }
};

/// Adds --loss-type, --teacher-model, --ewc-file, those of add_robust_options, and what belongs to them.
void add_objective_options(App& app, ObjectiveRequest& request);

/// Throws UsageError for options out of their ranges, or without what they belong to.
void check_objective(const ObjectiveRequest& request);

/// An objective, and what must live as long.
struct MadeObjective {
  std::unique_ptr<gpt::Model> teacher;
  std::shared_ptr<gpt::Objective> objective;  // null: the loss of the text
};

/// `old` is what --ewc-file holds, as what --train-file holds would be learned; null without it. The adapter that is to be trained is
/// attached already. Label smoothing is taken out of the arguments where there is an objective, which has it then.
MadeObjective make_objective(const ObjectiveRequest& request, gpt::Model& model,
                             gpt::TrainingArguments& arguments, const gpt::Dataset* old,
                             std::stop_token stop);

}  // namespace program
