#include "robust_options.h"

#include <string>
#include <string_view>
#include <utility>

#include <gpt/core/error.h>
#include <gpt/train/adversarial.h>
#include <gpt/train/contrastive.h>
#include <gpt/train/r_drop.h>

#include "program.h"

namespace program {
namespace {

gpt::AdversarialMethod adversarial_method_of(const RobustRequest& request) {
  const auto method = gpt::adversarial_method_from_name(*request.adversarial);
  if (!method)
    throw UsageError("--adversarial: " + in_quotes(*request.adversarial) + " is none of fgm, pgd, freelb");
  return *method;
}

}  // namespace

void add_robust_options(App& app, RobustRequest& request) {
  app.add_number("--r-drop-alpha", request.r_drop_alpha,
                 "Feed all twice, with dropout of its own, and learn to say the same: how much that counts")
      .sets("[r_drop] alpha");
  app.add_text("--adversarial", request.adversarial, "NAME",
               "Learn from embeddings that are made worse, too: fgm, pgd or freelb");
  app.add_number("--adversarial-epsilon", request.adversarial_epsilon,
                 "The largest norm of what is added to a sequence (1)")
      .sets("[adversarial] epsilon");
  app.add_number("--adversarial-step-size", request.adversarial_step_size, "Of pgd and freelb (0.3)")
      .sets("[adversarial] step_size");
  app.add_number("--adversarial-steps", request.adversarial_steps, "Of pgd and freelb (3)", 1)
      .sets("[adversarial] steps");
  app.add_number("--adversarial-weight", request.adversarial_weight,
                 "Of fgm and pgd: of their loss beside that of the text (1)")
      .sets("[adversarial] loss_weight");
}

void add_contrastive_options(App& app, RobustRequest& request) {
  app.add_number("--contrastive-weight", request.contrastive_weight,
                 "Learn to put texts of one label side by side: its part of the loss, 0 to 1")
      .sets("[contrastive] weight");
  app.add_number("--contrastive-temperature", request.contrastive_temperature, "Of that (0.3)")
      .sets("[contrastive] temperature");
}

void add_layer_options(App& app, gpt::TrainingArguments& a) {
  app.add_number("--layerwise-lr-decay", a.layerwise_lr_decay,
                 "What the rate is multiplied by for each layer further down (1)");
  app.add_number("--unfreeze-steps", a.unfreeze_steps,
                 "Let one block more learn after so many updates, from the top, 0 = all from the start (0)",
                 0);
  app.add_number("--unfreeze-epochs", a.unfreeze_epochs, "Or after so many epochs (0)", 0);
  app.add_number("--swa-start", a.swa_start,
                 "Keep the mean of the weights from this part of all updates on, 0 = not (0)");
}

void check_robust(const RobustRequest& r) {
  const auto needs = [](const char* option, bool given, const char* other, bool there) {
    if (given && !there) throw UsageError(gpt::concat(option, " needs ", other));
  };
  const bool attacks = r.adversarial.has_value();
  needs("--adversarial-epsilon", r.adversarial_epsilon.has_value(), "--adversarial", attacks);
  const auto method = attacks ? adversarial_method_of(r) : gpt::AdversarialMethod::kFgm;
  const bool walks = attacks && method != gpt::AdversarialMethod::kFgm;
  needs("--adversarial-step-size", r.adversarial_step_size.has_value(), "--adversarial pgd or freelb", walks);
  needs("--adversarial-steps", r.adversarial_steps.has_value(), "--adversarial pgd or freelb", walks);
  needs("--adversarial-weight", r.adversarial_weight.has_value(), "--adversarial fgm or pgd",
        attacks && method != gpt::AdversarialMethod::kFreeLb);
  needs("--contrastive-temperature", r.contrastive_temperature.has_value(), "--contrastive-weight",
        r.contrastive_weight.has_value());
  if (r.r_drop_alpha && r.contrastive_weight)
    throw UsageError("--r-drop-alpha and --contrastive-weight are both given: expected one");
  check_usage([&] { make_robust(r, std::make_shared<gpt::LanguageModelObjective>()); });
}

std::shared_ptr<gpt::Objective> make_robust(const RobustRequest& r, std::shared_ptr<gpt::RowObjective> rows) {
  std::shared_ptr<gpt::Objective> objective = rows;
  if (r.r_drop_alpha) objective = std::make_shared<gpt::RDropObjective>(std::move(rows), *r.r_drop_alpha);
  if (r.contrastive_weight) {
    gpt::ContrastiveOptions options{.weight = *r.contrastive_weight};
    options.temperature = r.contrastive_temperature.value_or(options.temperature);
    objective = std::make_shared<gpt::ContrastiveObjective>(std::move(rows), options);
  }
  return make_adversarial(r, std::move(objective));
}

std::shared_ptr<gpt::Objective> make_adversarial(const RobustRequest& r,
                                                 std::shared_ptr<gpt::Objective> objective) {
  if (!r.adversarial) return objective;
  gpt::AdversarialOptions options{.method = adversarial_method_of(r)};
  options.epsilon = r.adversarial_epsilon.value_or(options.epsilon);
  options.step_size = r.adversarial_step_size.value_or(options.step_size);
  options.steps = r.adversarial_steps.value_or(options.steps);
  options.loss_weight = r.adversarial_weight.value_or(options.loss_weight);
  return std::make_shared<gpt::AdversarialObjective>(std::move(objective), options);
}

void refuse_row_options(const RobustRequest& r, const char* other) {
  for (const auto& [option, given] : {std::pair("--r-drop-alpha", r.r_drop_alpha.has_value()),
                                      {"--contrastive-weight", r.contrastive_weight.has_value()}})
    if (given) throw UsageError(gpt::concat(option, " is not for ", other));
}

}  // namespace program
