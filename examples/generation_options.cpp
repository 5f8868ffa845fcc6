#include "generation_options.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/core/error.h>
#include <gpt/io/hf_config.h>

namespace program {
namespace {

using gpt::GenerateOptions;
using gpt::TokenId;

constexpr Range<std::int64_t> kOneOrMore{.least = 1, .most = 65536};

/// An option whose value is a list of token ids, or the word none.
Option add_ids(App& app, const std::string& name, std::optional<std::vector<TokenId>>& ids,
               const std::string& description) {
  const auto read = [name, &ids](const std::string& text) {
    ids.emplace();
    if (text != "none") ids = parse_numbers<TokenId>(name, text, 0);
  };
  return app.add_text_function(name, read, "IDS", description);
}

/// An option whose value is JSON as it would stand in generation_config.json under `key`.
template <class T>
Option add_json(App& app, const std::string& name, const std::string& key, GenerateOptions& options,
                std::optional<T> GenerateOptions::*member, const std::string& description) {
  const auto read = [name, key, &options, member](const std::string& text) {
    try {
      gpt::HfConfig file(name);
      file.set_json(key, text);
      options.*member = GenerateOptions::from_config(file).*member;
    } catch (const gpt::FormatError& error) {
      std::string_view message = error.what();
      for (const std::string& begin : {gpt::concat("[", name, "] "), key + " "})
        if (message.starts_with(begin)) message.remove_prefix(begin.size());
      throw UsageError(gpt::concat(name, " ", message));
    }
  };
  return app.add_text_function(name, read, "JSON", description);
}

void add_new_tokens(App& app, GenerateOptions& options, const std::string& max_new_tokens) {
  app.add_setting("--max-new-tokens", options.max_new_tokens, "New tokens at most (" + max_new_tokens + ")",
                  {.least = 1});
  app.add_setting("--min-new-tokens", options.min_new_tokens, "New tokens before an eos token (0)",
                  {.least = 0});
}

void add_ends(App& app, GenerateOptions& options) {
  add_ids(app, "--eos-token-id", options.eos_token_id, "Tokens that end the text, or none");
  app.add_texts("--stop-strings,--stop", options.stop_strings, "TEXT",
                "Ends the text where it occurs; may be repeated");
}

// What counts the prompt's tokens too, or lets them go.
void add_whole_lengths(App& app, GenerateOptions& options) {
  app.add_setting("--max-length", options.max_length, "--max-new-tokens, counting the prompt", {.least = 1});
  app.add_setting("--min-length", options.min_length, "--min-new-tokens, counting the prompt (0)",
                  {.least = 0});
  app.add_flag("--sliding-window,!--no-sliding-window", options.sliding_window,
               "Go on where the context is full, with the newer half of it");
  app.add_setting("--n-keep", options.n_keep, "Tokens of the prompt that stay in the window, -1 = all (0)",
                  {.least = -1});
}

void add_sampling(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "Sampling (all but the first two need --do-sample)";
  const auto number = [&](const char* name, std::optional<double>& value, const char* description) {
    app.add_number(name, value, description).group(kGroup);
  };
  app.add_flag(
         "--do-sample,!--no-do-sample", options.do_sample,
         "Draw tokens instead of taking the best (--no-do-sample: not even if the checkpoint's settings say "
         "so)")
      .group(kGroup);
  app.add_number("--seed", options.seed, "Seed of the random numbers (0)").group(kGroup);
  number("--temperature", options.temperature, "Divides the logits, above 0 (1)");
  number("--dynatemp-range", options.dynatemp_range, "Let the entropy move the temperature so far (0)");
  number("--dynatemp-exponent", options.dynatemp_exponent, "How the entropy moves it (1)");
  number("--top-n-sigma", options.top_n_sigma,
         "Leave out logits so many deviations below the best (0 = off)");
  app.add_setting("--top-k", options.top_k, "Draw from the k best tokens, 0 = off (50)", {.least = 0})
      .group(kGroup);
  number("--top-p", options.top_p, "Draw from the best tokens of this mass (1)");
  number("--min-p", options.min_p, "Leave out tokens below this fraction of the best (0)");
  number("--typical-p", options.typical_p, "Draw from the most typical tokens of this mass (1)");
  number("--epsilon-cutoff", options.epsilon_cutoff, "Leave out tokens below this probability (0)");
  number("--eta-cutoff", options.eta_cutoff, "The same, less where the entropy is high (0)");
  number("--xtc-probability", options.xtc_probability, "How often to exclude the top choices (0)");
  number("--xtc-threshold", options.xtc_threshold, "Probability that makes a top choice (0.1)");
  app.add_setting("--mirostat", options.mirostat,
                  "2 = Mirostat 2.0 in place of the filters from --top-n-sigma on (0 = off)",
                  {.least = 0, .most = 2})
      .group(kGroup);
  number("--mirostat-tau", options.mirostat_tau, "The surprise it wants, in bits (5)");
  number("--mirostat-eta", options.mirostat_eta, "How fast it learns (0.1)");
}

void add_strategies(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "Searches, and several sequences";
  app.add_number("--penalty-alpha", options.penalty_alpha,
                 "Contrastive search among the --top-k best, without sampling (0 = off)")
      .group(kGroup);
  app.add_setting("--num-return-sequences", options.num_return_sequences,
                  "So many texts, drawn apart or the best of the beams (1)", kOneOrMore)
      .group(kGroup);
  app.add_number("--stream", options.stream, "Stream of the first text's random numbers (0)").group(kGroup);
  app.add_setting("--num-beams", options.num_beams, "Beam search, 1 = off (1)", kOneOrMore).group(kGroup);
  app.add_number("--length-penalty", options.length_penalty,
                 "Scores are sums over the length to this power (1)")
      .group(kGroup);
  const auto read_stopping = [&options](const std::string& text) {
    using gpt::EarlyStopping;
    if (text != "true" && text != "false" && text != "never")
      throw UsageError("--early-stopping: " + in_quotes(text) + " is none of true, false, never");
    options.early_stopping = text == "true"    ? EarlyStopping::kTrue
                             : text == "never" ? EarlyStopping::kNever
                                               : EarlyStopping::kFalse;
  };
  app.add_text_function("--early-stopping", read_stopping, "WHEN",
                        "Stop at num_beams finished texts: true, false (when it looks so), never (false)")
      .group(kGroup);
  app.add_setting("--num-beam-groups", options.num_beam_groups, "Groups of beams (1)", kOneOrMore)
      .group(kGroup);
  app.add_number("--diversity-penalty", options.diversity_penalty,
                 "Keeps the groups apart, needed for them (0)")
      .group(kGroup);
}

void add_speculation(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "Speculation (the same text, sooner where guesses are good)";
  app.add_setting("--prompt-lookup-num-tokens", options.prompt_lookup_num_tokens,
                  "Guess that so many tokens repeat what followed before (0 = off)", {.least = 0})
      .group(kGroup);
  app.add_setting("--max-matching-ngram-size", options.max_matching_ngram_size,
                  "Tokens that must have stood there (2)", kOneOrMore)
      .group(kGroup);
  app.add_setting("--num-assistant-tokens", options.num_assistant_tokens,
                  "Guesses of --assistant-model at most (20)", kOneOrMore)
      .group(kGroup);
  app.add_number("--assistant-confidence-threshold", options.assistant_confidence_threshold,
                 "Below this probability it guesses no further (0.4)")
      .group(kGroup);
}

void add_penalties(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "Biases and penalties";
  const auto number = [&](const char* name, std::optional<double>& value, const char* description) {
    app.add_number(name, value, description).group(kGroup);
  };
  number("--repetition-penalty", options.repetition_penalty, "Above 1 repeats less (1)");
  number("--frequency-penalty", options.frequency_penalty, "Taken off for each occurrence (0)");
  number("--presence-penalty", options.presence_penalty, "Taken off for any occurrence (0)");
  number("--dry-multiplier", options.dry_multiplier, "Penalizes long repetitions (0 = off)");
  number("--dry-base", options.dry_base, "Growth with their length (1.75)");
  app.add_setting("--dry-allowed-length", options.dry_allowed_length, "Length that is free (2)", {.least = 0})
      .group(kGroup);
  app.add_setting("--dry-penalty-last-n", options.dry_penalty_last_n, "Tokens to look back at, -1 = all (-1)",
                  {.least = -1})
      .group(kGroup);
  const auto read_breakers = [&options](const std::vector<std::string>& texts) {
    options.dry_sequence_breakers = texts;
    if (texts.size() == 1 && texts[0] == "none") options.dry_sequence_breakers->clear();
  };
  app.add_texts_function("--dry-sequence-breakers", read_breakers, "TEXT",
                         "Ends a repetition; may be repeated, or none (a line feed, :, \", *)")
      .group(kGroup);
  add_json(app, "--logit-bias", "logit_bias", options, &GenerateOptions::logit_bias,
           "Added to tokens' logits: {\"995\": -2.5}")
      .group(kGroup);
  add_json(app, "--sequence-bias", "sequence_bias", options, &GenerateOptions::sequence_bias,
           "Added where the sequence is completed: [[[15496, 995], -2.5]]")
      .group(kGroup);
  const auto read_decay = [&options](const std::string& text) {
    constexpr const char* kName = "--exponential-decay-length-penalty";
    const std::size_t comma = text.find(',');
    if (comma == text.npos)
      throw UsageError(gpt::concat(kName, ": ", in_quotes(text), " has no comma, expected START,FACTOR"));
    options.exponential_decay_length_penalty =
        gpt::ExponentialDecay{.start_index = parse_number<std::int64_t>(kName, text.substr(0, comma), 0),
                              .decay_factor = parse_number<double>(kName, text.substr(comma + 1))};
  };
  app.add_text_function("--exponential-decay-length-penalty", read_decay, "START,FACTOR",
                        "Make the end likelier after START new tokens")
      .group(kGroup);
}

void add_guidance(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "Guidance";
  app.add_number("--guidance-scale", options.guidance_scale, "Above 1 follows the prompt more (1 = off)")
      .group(kGroup);
  add_ids(app, "--negative-prompt-ids", options.negative_prompt_ids,
          "What guidance leads away from (the prompt's last token)")
      .group(kGroup);
}

void add_constraints(App& app, GenerateOptions& options) {
  constexpr const char* kGroup = "What may not come, or must";
  app.add_setting("--no-repeat-ngram-size", options.no_repeat_ngram_size,
                  "So many tokens in a row never come twice (0 = off)", {.least = 0})
      .group(kGroup);
  add_json(app, "--bad-words-ids", "bad_words_ids", options, &GenerateOptions::bad_words_ids,
           "Sequences that may not come: [[15496], [318, 407]]")
      .group(kGroup);
  add_ids(app, "--suppress-tokens", options.suppress_tokens, "Tokens that may not come").group(kGroup);
  add_ids(app, "--begin-suppress-tokens", options.begin_suppress_tokens, "Tokens that may not come first")
      .group(kGroup);
  add_ids(app, "--forced-eos-token-id", options.forced_eos_token_id, "Takes the last place").group(kGroup);
  app.add_flag("--renormalize-logits,!--no-renormalize-logits", options.renormalize_logits,
               "Make log-probabilities of the scores in the end")
      .group(kGroup);
}

// Only after a prompt of one token, which a reply never has before it.
void add_forced_bos(App& app, GenerateOptions& options) {
  const auto read = [&options](const std::string& text) {
    options.forced_bos_token_id = parse_number<TokenId>("--forced-bos-token-id", text, 0);
  };
  app.add_text_function("--forced-bos-token-id", read, "ID", "Comes after a prompt of one token")
      .group("What may not come, or must");
}

}  // namespace

void add_generation_options(App& app, GenerateOptions& options) {
  add_new_tokens(app, options, "20");
  add_whole_lengths(app, options);
  add_ends(app, options);
  app.add_setting("--logprobs", options.logprobs,
                  "Report log-probabilities, of N alternatives beside each token too", {.least = 0});
  add_sampling(app, options);
  add_strategies(app, options);
  add_speculation(app, options);
  add_penalties(app, options);
  add_guidance(app, options);
  add_constraints(app, options);
  add_forced_bos(app, options);
}

void add_reply_options(App& app, GenerateOptions& options, const std::string& max_new_tokens) {
  add_new_tokens(app, options, max_new_tokens);
  add_ends(app, options);
  add_sampling(app, options);
  add_penalties(app, options);
  add_constraints(app, options);
}

}  // namespace program
