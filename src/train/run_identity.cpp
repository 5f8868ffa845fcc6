#include "train/run_identity.h"

#include <functional>
#include <string>
#include <string_view>

#include "core/fingerprint.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

/// Calls f for the name of all that may be learned.
template <class F>
void for_each_name(const Gpt2& network, const F& f) {
  const auto visitor = [&](const std::string& name, const auto&, const auto&...) { f(name); };
  if (network.adapter() != nullptr)
    network.adapter()->visit(visitor);
  else
    network.visit(visitor);
}

/// Stands for the parameters that are learned, so that a run is not resumed with others.
std::uint64_t learned_names(const Gpt2& network, const std::function<bool(std::string_view)>& learns) {
  Fingerprint sum;
  for_each_name(network, [&](const std::string& name) {
    if (learns(name)) sum.add(name);
  });
  return sum.value();
}

/// Stands for how fast they are.
std::uint64_t rate_factors(const Gpt2& network, const std::function<double(std::string_view)>& factor_of) {
  Fingerprint sum;
  for_each_name(network, [&](const std::string& name) { sum.add(name).add(concat(factor_of(name))); });
  return sum.value();
}

/// What the model's files say under the key: --tokenizer, or its absence, would change it without a change of the bits.
std::string token_ids(std::string_view key, const HfConfig& config, const Model& model) {
  const std::string ids = config.get_json(key).value_or("null");
  const auto& generation = model.generation_config();
  if (!generation || !generation->has(key)) return ids;
  return concat(ids, " (generation_config.json: ", generation->get_json(key).value_or("null"), ")");
}

}  // namespace

HfConfig run_of(const Dataset& data, const Dataset* evaluation, const TrainingArguments& a,
                const Objective& objective, const Model& model, std::int64_t steps) {
  const Gpt2& network = model.network();
  const Gpt2Config& config = network.config();
  HfConfig run{"run"};
  const auto set = [&](std::string_view name, const auto& value) { run.set_string(name, concat(value)); };
  set("data", data.fingerprint());
  run.set_string("evaluation_data",
                 evaluation != nullptr ? concat(evaluation->fingerprint()) : std::string("none"));
  set("eval_steps", a.eval_steps);
  set("early_stopping_patience", a.early_stopping_patience);
  set("load_best_model_at_end", static_cast<int>(a.load_best_model_at_end));
  set("n_layer", config.n_layer);
  set("n_head", config.n_head);
  if (!config.pruned_heads.empty()) set("pruned_heads", network.adapted_shape().pruned_heads);
  set("n_inner", config.inner_dim());
  set("activation_function", ops::name_of(config.activation_function));
  set("layer_norm_epsilon", config.layer_norm_epsilon);
  set("scale_attn_weights", static_cast<int>(config.scale_attn_weights));
  set("scale_attn_by_inverse_layer_idx", static_cast<int>(config.scale_attn_by_inverse_layer_idx));
  set("tie_word_embeddings", static_cast<int>(config.tie_word_embeddings));
  set("n_embd", config.n_embd);
  HfConfig ids{"ids"};  // as config.json says them
  config.to_hf(ids);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    set(key, token_ids(key, ids, model));
  set("vocab_size", config.vocab_size);
  set("resid_pdrop", config.resid_pdrop);
  set("embd_pdrop", config.embd_pdrop);
  set("attn_pdrop", config.attn_pdrop);
  set("total_steps", steps);
  set("learning_rate", a.learning_rate);
  set("lr_scheduler_type", name_of(a.lr_scheduler_type));
  set("warmup_steps", a.warmup_steps);
  set("warmup_ratio", a.warmup_ratio);
  set("min_lr_rate", a.min_lr_rate);
  set("num_decay_steps", a.num_decay_steps);
  set("per_device_train_batch_size",
      a.max_tokens_per_batch ? 0 : a.per_device_train_batch_size.value_or(kBatchSize));
  set("max_tokens_per_batch", a.max_tokens_per_batch.value_or(0));
  set("gradient_accumulation_steps", a.gradient_accumulation_steps);
  set("weight_decay", a.weight_decay);
  set("adam_beta1", a.adam_beta1);
  set("adam_beta2", a.adam_beta2);
  set("adam_epsilon", a.adam_epsilon);
  set("max_grad_norm", a.max_grad_norm);
  if (a.label_smoothing_factor != 0) set("label_smoothing_factor", a.label_smoothing_factor);
  set("seed", a.seed);
  if (a.ema_decay != 0) set("ema_decay", a.ema_decay);
  if (a.swa_start != 0) set("swa_start", a.swa_start);
  if (a.layerwise_lr_decay != 1) set("layerwise_lr_decay", a.layerwise_lr_decay);
  if (a.learning_rate_factor_of)
    set("learning_rate_factor_of", rate_factors(network, a.learning_rate_factor_of));
  if (a.unfreeze_steps != 0) set("unfreeze_steps", a.unfreeze_steps);
  if (a.unfreeze_epochs != 0) set("unfreeze_epochs", a.unfreeze_epochs);
  if (const std::string loss = objective.describe(); !loss.empty()) set("loss", loss);
  if (a.metric_for_best_model != "loss") set("metric_for_best_model", a.metric_for_best_model);
  if (a.greater_is_better) set("greater_is_better", static_cast<int>(*a.greater_is_better));
  if (a.learns) set("learns", learned_names(network, a.learns));
  if (!a.initial_model.empty()) set("initial_model", a.initial_model);
  if (network.adapter() != nullptr) set("adapter", network.adapter()->describe());
  if (a.bf16) set("bf16", static_cast<int>(a.bf16));
  return run;
}

}  // namespace gpt
