// What makes a training robust, and lets its layers learn apart from one another, on the command line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <gpt/train/objectives.h>
#include <gpt/train/trainer.h>

#include "command_line.h"

namespace program {

/// The options of RDropObjective, AdversarialObjective and ContrastiveObjective.
struct RobustRequest {
  std::optional<double> r_drop_alpha;
  std::optional<std::string> adversarial;
  std::optional<double> adversarial_epsilon, adversarial_step_size, adversarial_weight;
  std::optional<std::int64_t> adversarial_steps;
  std::optional<double> contrastive_weight, contrastive_temperature;

  /// Whether an objective is to be put around another one.
  bool any() const noexcept { return r_drop_alpha || adversarial || contrastive_weight; }
};

/// Adds --r-drop-alpha, --adversarial and what belongs to it.
void add_robust_options(App& app, RobustRequest& request);
/// Adds --contrastive-weight and --contrastive-temperature: for classes.
void add_contrastive_options(App& app, RobustRequest& request);
/// Adds --layerwise-lr-decay, --unfreeze-steps, --unfreeze-epochs and --swa-start.
void add_layer_options(App& app, gpt::TrainingArguments& arguments);

/// Throws UsageError for options out of their ranges, without what they belong to, or beside what they exclude.
void check_robust(const RobustRequest& request);

/// The objective with all that is asked for around it.
std::shared_ptr<gpt::Objective> make_robust(const RobustRequest& request,
                                            std::shared_ptr<gpt::RowObjective> rows);
/// The same of one that is no sum over rows of logits, which takes adversarial embeddings alone.
std::shared_ptr<gpt::Objective> make_adversarial(const RobustRequest& request,
                                                 std::shared_ptr<gpt::Objective> objective);

/// Throws UsageError, naming `other`, for the first of the options that is given and for rows of logits.
void refuse_row_options(const RobustRequest& request, const char* other);

}  // namespace program
