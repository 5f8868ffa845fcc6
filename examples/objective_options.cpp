#include "objective_options.h"

#include <cmath>
#include <utility>

#include <gpt/core/error.h>
#include <gpt/train/continual.h>
#include <gpt/train/distillation.h>

#include "program.h"

namespace program {
namespace {

gpt::PreferenceOptions preference_of(const ObjectiveRequest& request) {
  gpt::PreferenceOptions options;
  if (*request.loss_type == "simpo")
    options.loss = gpt::PreferenceLoss::kSimpo;
  else if (*request.loss_type != "sigmoid")
    throw UsageError(
        gpt::concat("--loss-type: ", in_quotes(*request.loss_type), " is none of sigmoid, simpo"));
  options.beta = request.beta.value_or(options.loss == gpt::PreferenceLoss::kSimpo ? 2.0 : options.beta);
  options.gamma = request.simpo_gamma.value_or(0);
  return options;
}

gpt::DistillationOptions distillation_of(const ObjectiveRequest& request) {
  gpt::DistillationOptions options;
  options.alpha = request.distillation_alpha.value_or(options.alpha);
  options.temperature = request.distillation_temperature.value_or(options.temperature);
  return options;
}

}  // namespace

void add_objective_options(App& app, ObjectiveRequest& request) {
  app.add_text("--loss-type", request.loss_type, "NAME",
               "Learn from lines {\"prompt\", \"chosen\", \"rejected\"} by the loss of DPO (sigmoid) or "
               "SimPO (simpo)");
  app.add_number("--beta", request.beta, "How much a preference counts (sigmoid 0.1, simpo 2)");
  app.add_number("--simpo-gamma", request.simpo_gamma, "The margin that SimPO asks for (0)");
  app.add_text("--teacher-model", request.teacher_model, "PATH",
               "Learn from this model with the same tokenizer, too (knowledge distillation)");
  app.add_number("--distillation-alpha", request.distillation_alpha,
                 "The teacher's part of the loss, 0 to 1 (0.5)")
      .sets("[distillation] alpha");
  app.add_number("--distillation-temperature", request.distillation_temperature, "Of both distributions (2)")
      .sets("[distillation] temperature");
  add_robust_options(app, request.robust);
  app.add_text("--ewc-file", request.ewc_file, "FILE",
               "What the model has learned before: weights are held where it needs them (EWC)");
  app.add_number("--ewc-lambda", request.ewc_lambda, "How much (1000)");
  app.add_number("--ewc-samples", request.ewc_samples, "Samples of it that are looked at, 0 = all (256)", 0);
}

void check_objective(const ObjectiveRequest& request) {
  const auto needs = [](const char* option, bool given, const char* other, bool there) {
    if (given && !there) throw UsageError(gpt::concat(option, " needs ", other));
  };
  const bool preferences = request.loss_type.has_value(), teacher = request.teacher_model.has_value();
  if (preferences && teacher)
    throw UsageError("--loss-type and --teacher-model are both given: expected one");
  needs("--beta", request.beta.has_value(), "--loss-type", preferences);
  needs("--simpo-gamma", request.simpo_gamma.has_value(), "--loss-type simpo",
        preferences && *request.loss_type == "simpo");
  needs("--distillation-alpha", request.distillation_alpha.has_value(), "--teacher-model", teacher);
  needs("--distillation-temperature", request.distillation_temperature.has_value(), "--teacher-model",
        teacher);
  needs("--ewc-lambda", request.ewc_lambda.has_value(), "--ewc-file", request.ewc_file.has_value());
  needs("--ewc-samples", request.ewc_samples.has_value(), "--ewc-file", request.ewc_file.has_value());
  if (const double lambda = request.ewc_lambda.value_or(0); !(lambda >= 0) || !std::isfinite(lambda))
    throw UsageError(gpt::concat("--ewc-lambda is ", lambda, ", expected 0 or more"));
  check_robust(request.robust);
  if (preferences) refuse_row_options(request.robust, "--loss-type");
  if (teacher) refuse_row_options(request.robust, "--teacher-model");
  const gpt::Gpt2 small(
      gpt::Gpt2Config{.vocab_size = 1, .n_positions = 1, .n_embd = 1, .n_layer = 1, .n_head = 1});
  if (preferences) check_usage([&] { gpt::PreferenceObjective(small, preference_of(request)); });
  if (teacher) check_usage([&] { gpt::DistillationObjective(small, distillation_of(request)); });
}

MadeObjective make_objective(const ObjectiveRequest& request, gpt::Model& model, gpt::TrainingArguments& a,
                             const gpt::Dataset* old, std::stop_token stop) {
  MadeObjective made;
  const bool text = !request.learns_preferences() && !request.teacher_model;
  const bool around = request.robust.any() || request.ewc_file;
  if (request.learns_preferences())
    made.objective = std::make_shared<gpt::PreferenceObjective>(model.network(), preference_of(request));
  if (request.teacher_model) {
    made.teacher = std::make_unique<gpt::Model>(
        gpt::Model::load(*request.teacher_model, {.pack = true, .on_warning = warn, .stop = stop}));
    const gpt::Model& teacher = *made.teacher;
    if (teacher.has_tokenizer() && model.has_tokenizer() &&
        teacher.tokenizer().fingerprint() != model.tokenizer().fingerprint())
      warn(gpt::concat("--teacher-model ", *request.teacher_model,
                       " has another tokenizer than --model: its tokens may mean something else"));
    made.objective =
        std::make_shared<gpt::DistillationObjective>(made.teacher->network(), distillation_of(request));
  }
  if (!around) return made;
  if (text)
    made.objective =
        make_robust(request.robust, std::make_shared<gpt::LanguageModelObjective>(
                                        gpt::BatchLoss(), std::exchange(a.label_smoothing_factor, 0),
                                        model.network().predicts_first_token()));
  else
    made.objective = make_adversarial(request.robust, made.objective);
  if (old != nullptr) {
    gpt::LanguageModelObjective of_text;
    const auto information = std::make_shared<gpt::FisherInformation>(
        model, of_text, *old,
        gpt::FisherOptions{
            .samples = request.ewc_samples.value_or(256), .seed = a.seed, .learns = a.learns, .stop = stop});
    made.objective =
        std::make_shared<gpt::EwcObjective>(made.objective, information, request.ewc_lambda.value_or(1000));
  }
  return made;
}

}  // namespace program
