// What a training lowers instead of the loss of its text, on the command line.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include <gpt/models/model.h>
#include <gpt/train/objectives.h>
#include <gpt/train/preference.h>

#include "command_line.h"

namespace program {

/// TRL's names.
struct ObjectiveRequest {
  std::optional<std::string> loss_type, teacher_model;
  std::optional<double> beta, simpo_gamma, distillation_alpha, distillation_temperature;

  bool learns_preferences() const noexcept { return loss_type.has_value(); }
};

/// Adds --loss-type, --teacher-model and what belongs to them.
void add_objective_options(App& app, ObjectiveRequest& request);

/// Throws UsageError for options out of their ranges, or without what they belong to.
void check_objective(const ObjectiveRequest& request);

/// An objective, and what must live as long.
struct MadeObjective {
  std::unique_ptr<gpt::Model> teacher;
  std::shared_ptr<gpt::Objective> objective;  // null: the loss of the text
};

MadeObjective make_objective(const ObjectiveRequest& request, const gpt::Model& model, std::stop_token stop);

}  // namespace program
