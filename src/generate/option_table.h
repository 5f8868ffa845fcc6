// The options that a checkpoint's generation_config.json may set as the caller does, so that reading, merging and checking
// them are loops.
#pragma once

#include "gpt/generate/generate_options.h"

namespace gpt::generate {

/// When an option counts.
enum class OptionKind {
  kAlways,
  kSampling,  // with do_sample only
  kFilter,    // the same, and not with mirostat
};

/// Calls visit(name, member, kind) for each of them, the lengths and do_sample apart: those have rules of their own.
template <class Visit>
void for_each_option(Visit&& visit) {
  using O = GenerateOptions;
  using enum OptionKind;
  visit("temperature", &O::temperature, kSampling);
  visit("dynatemp_range", &O::dynatemp_range, kSampling);
  visit("dynatemp_exponent", &O::dynatemp_exponent, kSampling);
  visit("top_n_sigma", &O::top_n_sigma, kFilter);
  visit("top_k", &O::top_k, kFilter);
  visit("top_p", &O::top_p, kFilter);
  visit("min_p", &O::min_p, kFilter);
  visit("typical_p", &O::typical_p, kFilter);
  visit("epsilon_cutoff", &O::epsilon_cutoff, kFilter);
  visit("eta_cutoff", &O::eta_cutoff, kFilter);
  visit("xtc_probability", &O::xtc_probability, kFilter);
  visit("xtc_threshold", &O::xtc_threshold, kFilter);
  visit("mirostat", &O::mirostat, kSampling);
  visit("mirostat_tau", &O::mirostat_tau, kSampling);
  visit("mirostat_eta", &O::mirostat_eta, kSampling);

  visit("repetition_penalty", &O::repetition_penalty, kAlways);
  visit("frequency_penalty", &O::frequency_penalty, kAlways);
  visit("presence_penalty", &O::presence_penalty, kAlways);
  visit("dry_multiplier", &O::dry_multiplier, kAlways);
  visit("dry_base", &O::dry_base, kAlways);
  visit("dry_allowed_length", &O::dry_allowed_length, kAlways);
  visit("dry_penalty_last_n", &O::dry_penalty_last_n, kAlways);
  visit("dry_sequence_breakers", &O::dry_sequence_breakers, kAlways);
  visit("sequence_bias", &O::sequence_bias, kAlways);
  visit("logit_bias", &O::logit_bias, kAlways);
  visit("exponential_decay_length_penalty", &O::exponential_decay_length_penalty, kAlways);

  visit("no_repeat_ngram_size", &O::no_repeat_ngram_size, kAlways);
  visit("bad_words_ids", &O::bad_words_ids, kAlways);
  visit("suppress_tokens", &O::suppress_tokens, kAlways);
  visit("begin_suppress_tokens", &O::begin_suppress_tokens, kAlways);
  visit("forced_bos_token_id", &O::forced_bos_token_id, kAlways);
  visit("forced_eos_token_id", &O::forced_eos_token_id, kAlways);
  visit("renormalize_logits", &O::renormalize_logits, kAlways);
  visit("guidance_scale", &O::guidance_scale, kAlways);

  visit("penalty_alpha", &O::penalty_alpha, kAlways);
  visit("num_return_sequences", &O::num_return_sequences, kAlways);
  visit("prompt_lookup_num_tokens", &O::prompt_lookup_num_tokens, kAlways);
  visit("max_matching_ngram_size", &O::max_matching_ngram_size, kAlways);
  visit("num_assistant_tokens", &O::num_assistant_tokens, kAlways);
  visit("assistant_confidence_threshold", &O::assistant_confidence_threshold, kAlways);
  visit("num_beams", &O::num_beams, kAlways);
  visit("length_penalty", &O::length_penalty, kAlways);
  visit("early_stopping", &O::early_stopping, kAlways);
  visit("num_beam_groups", &O::num_beam_groups, kAlways);
  visit("diversity_penalty", &O::diversity_penalty, kAlways);

  visit("sliding_window", &O::sliding_window, kAlways);
  visit("n_keep", &O::n_keep, kAlways);

  visit("eos_token_id", &O::eos_token_id, kAlways);
  visit("stop_strings", &O::stop_strings, kAlways);
}

}  // namespace gpt::generate
