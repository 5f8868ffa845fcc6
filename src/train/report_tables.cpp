// The settings of a run for its report. The structured bindings name every member, so that a new one cannot be forgotten.
#include <optional>
#include <string>
#include <string_view>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/train/report.h"
#include "text/markup.h"

namespace gpt {
namespace {

std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(double value) { return significant(value, 9); }
std::string text_of(float value) { return concat(value); }
std::string text_of(std::int64_t value) { return concat(value); }
std::string text_of(std::uint64_t value) { return concat(value); }
std::string text_of(TokenId value) { return concat(value); }
std::string text_of(LrScheduler value) { return std::string(name_of(value)); }
std::string text_of(ops::Activation value) { return std::string(ops::name_of(value)); }
std::string text_of(const std::filesystem::path& value) { return value.string(); }
std::string text_of(const LoraConfig& value) {
  std::string text =
      concat("r ", value.r, ", lora_alpha ", value.lora_alpha, ", lora_dropout ", value.lora_dropout);
  if (value.use_rslora) text += ", use_rslora";
  for (const std::string& target : value.target_modules) text += ", " + target;
  return text;
}
template <class T>
std::string text_of(const std::optional<T>& value) {
  return value ? text_of(*value) : "none";
}
std::string text_of(const std::vector<TokenId>& values) {
  std::string all;
  for (const TokenId value : values) all += concat(all.empty() ? "" : ", ", value);
  return all.empty() ? "none" : all;
}

}  // namespace

TrainingReport::Table table_of(const TrainingArguments& arguments) try {
  const auto& [learning_rate, lr_scheduler_type, warmup_steps, warmup_ratio, min_lr_rate, num_decay_steps,
               num_train_epochs, max_steps, per_device_train_batch_size, per_device_eval_batch_size,
               max_tokens_per_batch, gradient_accumulation_steps, weight_decay, adam_beta1, adam_beta2,
               adam_epsilon, max_grad_norm, label_smoothing_factor, ema_decay, swa_start, layerwise_lr_decay,
               learning_rate_factor_of, unfreeze_steps, unfreeze_epochs, seed, gradient_checkpointing, bf16,
               lora, learns, logging_steps, eval_steps, save_steps, save_total_limit, load_best_model_at_end,
               metric_for_best_model, greater_is_better, early_stopping_patience, output_dir, initial_model,
               resume_from_checkpoint] = arguments;
  return {"Training arguments",
          {{"learning_rate", text_of(learning_rate)},
           {"lr_scheduler_type", text_of(lr_scheduler_type)},
           {"warmup_steps", text_of(warmup_steps)},
           {"warmup_ratio", text_of(warmup_ratio)},
           {"min_lr_rate", text_of(min_lr_rate)},
           {"num_decay_steps", text_of(num_decay_steps)},
           {"num_train_epochs", text_of(num_train_epochs)},
           {"max_steps", text_of(max_steps)},
           {"per_device_train_batch_size", text_of(per_device_train_batch_size)},
           {"per_device_eval_batch_size", text_of(per_device_eval_batch_size)},
           {"max_tokens_per_batch", text_of(max_tokens_per_batch)},
           {"gradient_accumulation_steps", text_of(gradient_accumulation_steps)},
           {"weight_decay", text_of(weight_decay)},
           {"adam_beta1", text_of(adam_beta1)},
           {"adam_beta2", text_of(adam_beta2)},
           {"adam_epsilon", text_of(adam_epsilon)},
           {"max_grad_norm", text_of(max_grad_norm)},
           {"label_smoothing_factor", text_of(label_smoothing_factor)},
           {"ema_decay", text_of(ema_decay)},
           {"swa_start", text_of(swa_start)},
           {"layerwise_lr_decay", text_of(layerwise_lr_decay)},
           {"learning_rate_factor_of", learning_rate_factor_of ? "by name" : "1"},
           {"unfreeze_steps", text_of(unfreeze_steps)},
           {"unfreeze_epochs", text_of(unfreeze_epochs)},
           {"seed", text_of(seed)},
           {"gradient_checkpointing", text_of(gradient_checkpointing)},
           {"bf16", text_of(bf16)},
           {"lora", text_of(lora)},
           {"learns", learns ? "some" : "all"},
           {"logging_steps", text_of(logging_steps)},
           {"eval_steps", text_of(eval_steps)},
           {"save_steps", text_of(save_steps)},
           {"save_total_limit", text_of(save_total_limit)},
           {"load_best_model_at_end", text_of(load_best_model_at_end)},
           {"metric_for_best_model", metric_for_best_model},
           {"greater_is_better", text_of(greater_is_better)},
           {"early_stopping_patience", text_of(early_stopping_patience)},
           {"output_dir", text_of(output_dir)},
           {"initial_model", initial_model},
           {"resume_from_checkpoint", text_of(resume_from_checkpoint)}}};
} catch (...) {
  rethrow_with_memory_errors("report");
}

TrainingReport::Table table_of(const Gpt2Config& config) try {
  const auto& [vocab_size, n_positions, n_embd, n_layer, n_head, n_inner, activation_function,
               layer_norm_epsilon, initializer_range, resid_pdrop, embd_pdrop, attn_pdrop, scale_attn_weights,
               scale_attn_by_inverse_layer_idx, reorder_and_upcast_attn, tie_word_embeddings, bos_token_id,
               eos_token_id, pad_token_id, pruned_heads] = config;
  std::string pruned;
  for (const auto& [layer, heads] : pruned_heads)
    pruned += concat(pruned.empty() ? "" : ", ", heads.size(), " of layer ", layer);
  return {"Model",
          {{"vocab_size", text_of(vocab_size)},
           {"n_positions", text_of(n_positions)},
           {"n_embd", text_of(n_embd)},
           {"n_layer", text_of(n_layer)},
           {"n_head", text_of(n_head)},
           {"n_inner", text_of(n_inner)},
           {"activation_function", text_of(activation_function)},
           {"layer_norm_epsilon", text_of(layer_norm_epsilon)},
           {"initializer_range", text_of(initializer_range)},
           {"resid_pdrop", text_of(resid_pdrop)},
           {"embd_pdrop", text_of(embd_pdrop)},
           {"attn_pdrop", text_of(attn_pdrop)},
           {"scale_attn_weights", text_of(scale_attn_weights)},
           {"scale_attn_by_inverse_layer_idx", text_of(scale_attn_by_inverse_layer_idx)},
           {"reorder_and_upcast_attn", text_of(reorder_and_upcast_attn)},
           {"tie_word_embeddings", text_of(tie_word_embeddings)},
           {"bos_token_id", text_of(bos_token_id)},
           {"eos_token_id", text_of(eos_token_id)},
           {"pad_token_id", text_of(pad_token_id)},
           {"pruned_heads", pruned}}};
} catch (...) {
  rethrow_with_memory_errors("report");
}

}  // namespace gpt
