// What TrainingArguments may be.
#include <cmath>

#include "gpt/core/error.h"
#include "gpt/train/adamw.h"
#include "gpt/train/trainer.h"

namespace gpt {
namespace {

constexpr std::string_view kArguments = "trainer";

}  // namespace

void TrainingArguments::validate() const {
  const auto require = [](std::string_view name, auto value, bool holds, std::string_view expected) {
    if (!holds) fail<ArgumentError>(kArguments, name, " is ", value, ", expected ", expected);
  };
  const auto at_least = [&](std::string_view name, std::int64_t value, std::int64_t least) {
    require(name, value, value >= least, concat(least, " or more"));
  };
  require("learning_rate", learning_rate, learning_rate >= 0 && std::isfinite(learning_rate), "0 or more");
  require("warmup_ratio", warmup_ratio, warmup_ratio >= 0 && warmup_ratio <= 1, "0 to 1");
  require("num_train_epochs", num_train_epochs, num_train_epochs > 0 && num_train_epochs <= 1e9,
          "more than 0, at most 1e9");
  require("label_smoothing_factor", label_smoothing_factor,
          label_smoothing_factor >= 0 && label_smoothing_factor <= 1, "0 to 1");
  require("ema_decay", ema_decay, ema_decay >= 0 && ema_decay < 1, "0 or more, and less than 1");
  require("swa_start", swa_start, swa_start >= 0 && swa_start < 1, "0 or more, and less than 1");
  if (swa_start != 0 && ema_decay != 0)
    fail<ArgumentError>(kArguments, "swa_start and ema_decay are both set, expected one average");
  require("layerwise_lr_decay", layerwise_lr_decay, layerwise_lr_decay > 0 && layerwise_lr_decay <= 1,
          "more than 0, at most 1");
  at_least("unfreeze_steps", unfreeze_steps, 0);
  at_least("unfreeze_epochs", unfreeze_epochs, 0);
  if (unfreeze_steps != 0 && unfreeze_epochs != 0)
    fail<ArgumentError>(kArguments, "unfreeze_steps and unfreeze_epochs are both set, expected one");
  if (lora && (unfreeze_steps != 0 || unfreeze_epochs != 0))
    fail<ArgumentError>(kArguments, unfreeze_steps != 0 ? "unfreeze_steps" : "unfreeze_epochs",
                        " is set, but lora trains an adapter, and the network stays frozen");
  require("max_grad_norm", max_grad_norm, max_grad_norm >= 0, "0 or more");
  require("max_steps", max_steps, max_steps == -1 || max_steps > 0, "-1, or 1 or more");
  at_least("warmup_steps", warmup_steps, 0);
  at_least("num_decay_steps", num_decay_steps, 0);
  if (per_device_train_batch_size) at_least("per_device_train_batch_size", *per_device_train_batch_size, 1);
  at_least("per_device_eval_batch_size", per_device_eval_batch_size, 1);
  at_least("gradient_accumulation_steps", gradient_accumulation_steps, 1);
  at_least("logging_steps", logging_steps, 1);
  at_least("eval_steps", eval_steps, 0);
  at_least("save_steps", save_steps, 0);
  at_least("early_stopping_patience", early_stopping_patience, 0);
  if (max_tokens_per_batch) at_least("max_tokens_per_batch", *max_tokens_per_batch, 1);
  if (save_total_limit) at_least("save_total_limit", *save_total_limit, 1);
  const bool has_minimum = lr_scheduler_type == LrScheduler::kCosineWithMinLr ||
                           lr_scheduler_type == LrScheduler::kWarmupStableDecay;
  if (min_lr_rate != 0 && !has_minimum)
    fail<ArgumentError>(kArguments, "min_lr_rate is set, but ", name_of(lr_scheduler_type),
                        " has no minimum");
  if ((warmup_steps != 0 || warmup_ratio != 0) && lr_scheduler_type == LrScheduler::kConstant)
    fail<ArgumentError>(kArguments, warmup_steps != 0 ? "warmup_steps" : "warmup_ratio",
                        " is set, but constant has no warmup: constant_with_warmup has");
  if (num_decay_steps != 0 && lr_scheduler_type != LrScheduler::kWarmupStableDecay)
    fail<ArgumentError>(kArguments, "num_decay_steps is set, but ", name_of(lr_scheduler_type),
                        " does not take it");
  learning_rate_factor({.type = lr_scheduler_type, .min_lr_rate = min_lr_rate}, 0);  // which checks it
  gpt::check({.adam_beta1 = adam_beta1,
              .adam_beta2 = adam_beta2,
              .adam_epsilon = adam_epsilon,
              .weight_decay = weight_decay});
  require("metric_for_best_model", metric_for_best_model, !metric_for_best_model.empty(),
          "loss or a metric of the objective");
  if (load_best_model_at_end && output_dir.empty())
    fail<ArgumentError>(kArguments, "load_best_model_at_end needs an output_dir");
  if (resume_from_checkpoint && output_dir.empty())
    fail<ArgumentError>(kArguments, "resume_from_checkpoint needs an output_dir");
}

}  // namespace gpt
