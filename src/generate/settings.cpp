#include "generate/settings.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "generate/option_table.h"
#include "generate/processor_list.h"
#include "generate/processor_support.h"
#include "gpt/core/error.h"
#include "gpt/generate/logits_processors.h"
#include "gpt/ops/attention.h"

namespace gpt::generate {
namespace {

constexpr std::int64_t kDefaultLength = 20;  // GenerationConfig.max_length

void check_strings(const char* option, const std::vector<std::string>& strings) {
  if (std::any_of(strings.begin(), strings.end(), [](const auto& text) { return text.empty(); }))
    fail<ArgumentError>("generate", option, " holds an empty string, which every text would contain");
}

// `contrastive`: top_k then counts without sampling.
void check_sampling_options(const GenerateOptions& options, bool contrastive) {
  for_each_option([&](std::string_view name, auto member, OptionKind kind) {
    if (contrastive && name == "top_k") return;
    if (kind != OptionKind::kAlways && (options.*member).has_value())
      fail<ArgumentError>("generate", name,
                          " is set but do_sample is off: a sampling option needs do_sample");
  });
}

void check_no_filters(const GenerateOptions& options) {
  for_each_option([&](std::string_view name, auto member, OptionKind kind) {
    if (kind == OptionKind::kFilter && (options.*member).has_value())
      fail<ArgumentError>("generate", name, " is set but mirostat is on, which takes the filters' place");
  });
}

// What the caller sets must not be in vain: `merged` says whether the option that it belongs to is on.
void check_dependent_options(const GenerateOptions& options, const GenerateOptions& merged) {
  const auto check = [](std::string_view name, bool is_set, std::string_view other, bool is_on) {
    if (is_set && !is_on) fail<ArgumentError>("generate", name, " is set but ", other, " is off");
  };
  const bool dynatemp = merged.dynatemp_range.value_or(0.0) != 0.0;
  check("dynatemp_exponent", options.dynatemp_exponent.has_value(), "dynatemp_range", dynatemp);
  const bool xtc = merged.xtc_probability.value_or(0.0) != 0.0;
  check("xtc_threshold", options.xtc_threshold.has_value(), "xtc_probability", xtc);
  const bool mirostat = merged.mirostat.value_or(0) != 0;
  check("mirostat_tau", options.mirostat_tau.has_value(), "mirostat", mirostat);
  check("mirostat_eta", options.mirostat_eta.has_value(), "mirostat", mirostat);
  const bool lookup = merged.prompt_lookup_num_tokens.value_or(0) != 0;
  check("max_matching_ngram_size", options.max_matching_ngram_size.has_value(), "prompt_lookup_num_tokens",
        lookup);
  const bool assistant = merged.assistant_model != nullptr;
  check("num_assistant_tokens", options.num_assistant_tokens.has_value(), "assistant_model", assistant);
  check("assistant_confidence_threshold", options.assistant_confidence_threshold.has_value(),
        "assistant_model", assistant);
  const bool dry = merged.dry_multiplier.value_or(0.0) != 0.0;
  check("dry_base", options.dry_base.has_value(), "dry_multiplier", dry);
  check("dry_allowed_length", options.dry_allowed_length.has_value(), "dry_multiplier", dry);
  check("dry_penalty_last_n", options.dry_penalty_last_n.has_value(), "dry_multiplier", dry);
  check("dry_sequence_breakers", options.dry_sequence_breakers.has_value(), "dry_multiplier", dry);
  check("length_penalty", options.length_penalty.has_value(), "num_beams", has_beams(merged));
  check("early_stopping", options.early_stopping.has_value(), "num_beams", has_beams(merged));
  check("num_beam_groups", options.num_beam_groups.value_or(1) != 1, "num_beams", has_beams(merged));
  check("diversity_penalty", options.diversity_penalty.value_or(0.0) != 0.0, "num_beam_groups",
        merged.num_beam_groups.value_or(1) > 1);
  check("n_keep", options.n_keep.has_value(), "sliding_window", merged.sliding_window.value_or(false));
  check("negative_prompt_ids", options.negative_prompt_ids.has_value(), "guidance_scale", is_guided(merged));
}

template <class T>
bool holds(const std::optional<std::vector<T>>& list) {
  return list && !list->empty();
}

// A number of sequences, all of which are held at once.
void check_count(const char* option, const std::optional<std::int64_t>& count) {
  constexpr std::int64_t kMost = 65536;
  if (count && (*count < 1 || *count > kMost))
    fail<ArgumentError>("generate", option, " is ", *count, ", expected 1 to ", kMost);
}

void check_sequences(const GenerateOptions& options) {
  const std::int64_t wanted = options.num_return_sequences.value_or(1);
  if (!has_beams(options) && wanted > 1 && !*options.do_sample)
    fail<ArgumentError>("generate", "num_return_sequences is ", wanted,
                        ", and without do_sample or num_beams there is but one");
  if (has_beams(options) && wanted > *options.num_beams)
    fail<ArgumentError>("generate", "num_return_sequences is ", wanted, ", num_beams ", *options.num_beams,
                        ": expected no more than that");
}

// What a beam search does not go with.
void check_beams(const GenerateOptions& options) {
  if (!has_beams(options)) return;
  const bool do_sample = options.do_sample.value_or(false);
  const auto refuse = [](std::string_view name, bool is_on) {
    if (is_on) fail<UnsupportedError>("generate", name, " together with num_beams is not supported");
  };
  refuse("guidance_scale", is_guided(options));
  refuse("stop_strings", holds(options.stop_strings));
  refuse("assistant_model", options.assistant_model != nullptr);
  refuse("prompt_lookup_num_tokens", options.prompt_lookup_num_tokens.value_or(0) != 0);
  refuse("on_token", static_cast<bool>(options.on_token));
  if (do_sample) {
    refuse("mirostat", options.mirostat == 2);
    refuse("typical_p", options.typical_p.value_or(1.0) < 1.0);
  }
  const std::int64_t groups = options.num_beam_groups.value_or(1);
  if (groups == 1) return;
  if (*options.num_beams % groups != 0)
    fail<ArgumentError>("generate", "num_beam_groups is ", groups,
                        ", expected a divisor of num_beams = ", *options.num_beams);
  if (do_sample)
    fail<ArgumentError>("generate", "num_beam_groups is ", groups,
                        " and do_sample is on: groups of beams are not drawn");
}

void check_groups(const GenerateOptions& options) {
  const std::int64_t groups = options.num_beam_groups.value_or(1);
  if (has_beams(options) && groups > 1 && !(options.diversity_penalty.value_or(0.0) > 0.0))
    fail<ArgumentError>("generate", "num_beam_groups is ", groups,
                        " without a diversity_penalty above 0: the groups "
                        "would all be the same");
}

// What the caller sets must not be in vain; a file's penalty_alpha counts where it can.
void check_contrast(const GenerateOptions& options, const GenerateOptions& merged) {
  if (options.penalty_alpha.value_or(0.0) > 0.0 && !is_contrastive(merged))
    fail<ArgumentError>("generate", "penalty_alpha is ", *options.penalty_alpha,
                        ", which needs a top_k above 1, and neither do_sample nor num_beams");
  if (!is_contrastive(merged)) return;
  const auto refuse = [](std::string_view name, bool is_on) {
    if (is_on) fail<UnsupportedError>("generate", name, " together with penalty_alpha is not supported");
  };
  refuse("guidance_scale", is_guided(merged));
  refuse("prompt_lookup_num_tokens", merged.prompt_lookup_num_tokens.value_or(0) != 0);
  refuse("assistant_model", merged.assistant_model != nullptr);
  refuse("on_token", static_cast<bool>(merged.on_token));
}

// What needs every token of a sequence in the context at once.
void check_window(const GenerateOptions& options) {
  if (!options.sliding_window.value_or(false)) return;
  const auto refuse = [](std::string_view name, bool is_on) {
    if (is_on) fail<UnsupportedError>("generate", name, " together with sliding_window is not supported");
  };
  refuse("num_beams", has_beams(options));
  refuse("penalty_alpha", is_contrastive(options));
  refuse("guidance_scale", is_guided(options));
}

void check_drafts(const GenerateOptions& options) {
  const bool lookup = options.prompt_lookup_num_tokens.value_or(0) != 0,
             assistant = options.assistant_model != nullptr;
  if (lookup && assistant)
    fail<ArgumentError>("generate",
                        "prompt_lookup_num_tokens and assistant_model are both "
                        "set; give one of them");
  if ((lookup || assistant) && is_guided(options))
    fail<UnsupportedError>("generate", lookup ? "prompt_lookup_num_tokens" : "assistant_model",
                           " together with guidance_scale is not supported");
}

// What could end or begin a grammar's text otherwise, or break it off.
void check_beside_grammar(const GenerateOptions& options) {
  if (!options.grammar) return;
  const auto refuse = [](std::string_view name, bool is_on) {
    if (is_on) fail<UnsupportedError>("generate", name, " together with grammar is not supported");
  };
  refuse("stop_strings", holds(options.stop_strings));
  refuse("forced_bos_token_id", options.forced_bos_token_id.has_value());
  refuse("forced_eos_token_id", holds(options.forced_eos_token_id));
  // What drops tokens whatever else is left: a text could be broken off where it drops all that grammar admits.
  refuse("no_repeat_ngram_size", options.no_repeat_ngram_size.value_or(0) != 0);
  refuse("bad_words_ids", holds(options.bad_words_ids));
  refuse("min_length", options.min_length.value_or(0) > 0);
  refuse("min_new_tokens", options.min_new_tokens.value_or(0) > 0);
  refuse("prefix_allowed_tokens_fn", static_cast<bool>(options.prefix_allowed_tokens_fn));
  refuse("suppress_tokens", holds(options.suppress_tokens));
  refuse("begin_suppress_tokens", holds(options.begin_suppress_tokens));
}

// What a text of a grammar needs.
void check_grammar(const GenerateOptions& merged, const Model& model) {
  if (!model.has_tokenizer())
    fail<UnsupportedError>("generate", "grammar needs a tokenizer, and the checkpoint has none");
  if (!merged.grammar->is_for(model.tokenizer()))
    fail<ArgumentError>("generate", "grammar was compiled for another tokenizer than the model's");
  if (merged.grammar->vocab_size() > model.config().vocab_size)
    fail<ArgumentError>(
        "generate", "grammar was compiled for tokens up to the id ", merged.grammar->vocab_size() - 1,
        ", and the network has vocab_size = ", model.config().vocab_size, ": compile it for that vocab_size");
  if (merged.eos_token_id->empty())
    fail<ArgumentError>("generate", "grammar needs an eos_token_id, and there is none");
}

// What the caller leaves open is the file's.
void take_defaults(GenerateOptions& merged, const GenerateOptions& file) {
  merged.do_sample = merged.do_sample.value_or(file.do_sample.value_or(false));
  for_each_option([&](std::string_view, auto member, OptionKind) {
    if (!(merged.*member)) merged.*member = file.*member;
  });
  if (!merged.min_new_tokens && !merged.min_length) {
    merged.min_new_tokens = file.min_new_tokens;
    merged.min_length = file.min_length;
  }
}

void check_room(const GenerateOptions& options, std::int64_t count) {
  if (options.grammar && options.grammar->least_tokens() > count)
    fail<ArgumentError>("generate", "there is room for ", counted(count, "new token"), ", and grammar needs ",
                        options.grammar->least_tokens(),
                        " to complete a text: max_new_tokens must be larger");
}

}  // namespace

bool has_beams(const GenerateOptions& options) { return options.num_beams.value_or(1) > 1; }

std::int64_t contrastive_top_k(const GenerateOptions& options) {
  return options.top_k.value_or(kDefaultTopK);
}

bool is_contrastive(const GenerateOptions& options) {
  return options.penalty_alpha.value_or(0.0) > 0.0 && !options.do_sample.value_or(false) &&
         !has_beams(options) && contrastive_top_k(options) > 1;
}

Settings resolve(const GenerateOptions& options, const CheckpointDefaults& defaults, const Model& model) {
  const DefaultFloatEnvironment environment;  // the processors hold what is computed from the options
  options.validate();
  const std::int64_t vocab_size = model.config().vocab_size;
  if (options.eos_token_id) {
    for (const TokenId id : *options.eos_token_id) {
      if (id < 0 || id >= vocab_size)
        fail<ArgumentError>("generate", "eos_token_id ", id, " is outside the vocabulary [0, ", vocab_size,
                            ")");
    }
  }
  check_token_ids(options, vocab_size);
  if (options.adapter != nullptr) model.network().check(*options.adapter);
  if (options.logprobs && *options.logprobs > vocab_size)
    fail<ArgumentError>("generate", "logprobs is ", *options.logprobs, ", the vocabulary has ", vocab_size,
                        " tokens");

  Settings settings{.options = options,
                    .processors = {},
                    .length_source = {},
                    .asked_min_new_tokens = options.min_new_tokens};
  GenerateOptions& merged = settings.options;
  const GenerateOptions& file = defaults.options;
  take_defaults(merged, file);
  if (merged.adapter == nullptr) merged.adapter = model.network().adapter();  // whatever is attached later
  if (!options.eos_token_id)  // the network never says the file's that are outside the vocabulary
    std::erase_if(*merged.eos_token_id, [&](TokenId id) { return id >= vocab_size; });
  if (!*merged.do_sample) check_sampling_options(options, merged.penalty_alpha.value_or(0.0) > 0.0);
  check_contrast(options, merged);
  if (*merged.do_sample && !defaults.unsupported_when_sampling.empty())
    fail<UnsupportedError>(defaults.source, defaults.unsupported_when_sampling, " is not supported");
  if (*merged.do_sample && merged.mirostat == 2) check_no_filters(options);
  check_dependent_options(options, merged);
  if (merged.exponential_decay_length_penalty && merged.eos_token_id->empty())
    fail<ArgumentError>("generate",
                        "exponential_decay_length_penalty needs an "
                        "eos_token_id, and there is none");
  if (!merged.stop_strings) merged.stop_strings.emplace();
  check_strings("stop_strings", *merged.stop_strings);
  if (!merged.stop_strings->empty() && !model.has_tokenizer())
    fail<UnsupportedError>("generate", "stop_strings need a tokenizer, and the checkpoint has none");
  if (merged.grammar) check_grammar(merged, model);
  check_beside_grammar(merged);
  if (options.dry_sequence_breakers && !options.dry_sequence_breakers->empty() && !model.has_tokenizer())
    fail<UnsupportedError>("generate", "dry_sequence_breakers need a tokenizer, and the checkpoint has none");
  check_sequences(merged);
  check_beams(merged);
  check_groups(merged);
  check_window(merged);
  check_drafts(merged);
  if (!options.max_new_tokens && !options.max_length) {
    merged.max_new_tokens = file.max_new_tokens;
    if (!file.max_new_tokens && file.max_length != kDefaultLength) merged.max_length = file.max_length;
    const bool file_limits = merged.max_new_tokens || merged.max_length;
    settings.length_source = file_limits ? concat(" of ", defaults.source) : " by default";
  }
  settings.processors = make_processors(merged, model);
  return settings;
}

std::string counted(std::int64_t count, std::string_view noun) {
  return concat(count, " ", noun, count == 1 ? "" : "s");
}

std::string Room::text() const {
  return concat("n_positions = ", tokens + virtual_tokens,
                virtual_tokens > 0 ? concat(", less ", counted(virtual_tokens, "virtual token")) : "");
}

Room room_of(const Model& model, const Settings& settings) noexcept {
  const nn::Adapter* const adapter = settings.options.adapter.get();
  return {model.network().max_tokens(adapter), model.network().virtual_tokens(adapter)};
}

namespace {

std::int64_t most_new_tokens(const Settings& settings, std::int64_t prompt_length, const Room& room) {
  const GenerateOptions& options = settings.options;
  const bool slides = options.sliding_window.value_or(false);
  if (prompt_length > room.tokens && !slides)
    fail<ArgumentError>("generate", "the prompt has ", counted(prompt_length, "token"),
                        ", the context holds ", room.text());
  if (!options.max_new_tokens && !options.max_length) {
    return slides ? kDefaultLength : std::clamp<std::int64_t>(room.tokens - prompt_length, 1, kDefaultLength);
  }
  if (!options.max_new_tokens && *options.max_length <= prompt_length)
    fail<ArgumentError>("generate", "max_length", settings.length_source, " is ", *options.max_length,
                        ", which leaves no room for a new token after the prompt's ", prompt_length);
  const std::int64_t count =
      options.max_new_tokens ? *options.max_new_tokens : *options.max_length - prompt_length;
  if (!slides && count > room.tokens + 1 - prompt_length)
    fail<ArgumentError>("generate", "the prompt's ", counted(prompt_length, "token"), " and ",
                        counted(count, "new one"), settings.length_source,
                        " do not fit the context: ", room.text(), " leaves room for ",
                        counted(room.tokens + 1 - prompt_length, "new token"));
  return count;
}

}  // namespace

std::int64_t max_new_tokens(const Settings& settings, std::int64_t prompt_length, const Room& room) {
  const std::int64_t most = most_new_tokens(settings, prompt_length, room);
  check_room(settings.options, most);
  if (const std::int64_t least = settings.asked_min_new_tokens.value_or(0); least > most)
    fail<ArgumentError>("generate", "min_new_tokens is ", least, ", but there ", most == 1 ? "is" : "are",
                        " at most ", counted(most, "new token"), settings.length_source);
  // More than any generation comes to, to which a length can be added.
  return std::min(most, std::numeric_limits<std::int64_t>::max() / 2);
}

std::int64_t kept_tokens(const Settings& settings, std::int64_t prompt_length, const Room& room) {
  if (!settings.options.sliding_window.value_or(false)) return 0;
  const std::int64_t wanted = settings.options.n_keep.value_or(0);
  const std::int64_t keep = wanted < 0 ? prompt_length : std::min(wanted, prompt_length);
  if (keep >= room.tokens)
    fail<ArgumentError>("generate", "n_keep is ", wanted, " and keeps ", keep,
                        " tokens of the prompt, which leaves nothing to slide in ", room.text());
  return keep;
}

void check_values(const GenerateOptions& options) {
  if (options.max_new_tokens && options.max_length)
    fail<ArgumentError>("generate", "max_new_tokens = ", *options.max_new_tokens,
                        " and max_length = ", *options.max_length, " are both set; give one of them");
  if (options.max_new_tokens && *options.max_new_tokens < 1)
    fail<ArgumentError>("generate", "max_new_tokens is ", *options.max_new_tokens, ", expected at least 1");
  if (options.max_length && *options.max_length < 1)
    fail<ArgumentError>("generate", "max_length is ", *options.max_length, ", expected at least 1");
  if (options.min_new_tokens && options.min_length)
    fail<ArgumentError>("generate", "min_new_tokens = ", *options.min_new_tokens,
                        " and min_length = ", *options.min_length, " are both set; give one of them");
  check_ranges(options);
  if (options.min_new_tokens && options.max_new_tokens && *options.min_new_tokens > *options.max_new_tokens)
    fail<ArgumentError>("generate", "min_new_tokens is ", *options.min_new_tokens, ", max_new_tokens ",
                        *options.max_new_tokens, ": expected no more than that");
  if (options.min_length && options.max_length && *options.min_length > *options.max_length)
    fail<ArgumentError>("generate", "min_length is ", *options.min_length, ", max_length ",
                        *options.max_length, ": expected no more than that");
  if (options.logprobs && *options.logprobs < 0)
    fail<ArgumentError>("generate", "logprobs is ", *options.logprobs, ", expected 0 or more");
  check_count("num_return_sequences", options.num_return_sequences);
  check_count("num_beams", options.num_beams);
  check_count("num_beam_groups", options.num_beam_groups);
  if (options.prompt_lookup_num_tokens)
    require_count("prompt_lookup_num_tokens", *options.prompt_lookup_num_tokens);
  check_count("max_matching_ngram_size", options.max_matching_ngram_size);
  check_count("num_assistant_tokens", options.num_assistant_tokens);
  if (options.assistant_confidence_threshold)
    require_probability("assistant_confidence_threshold", *options.assistant_confidence_threshold);
  if (options.penalty_alpha) require_probability("penalty_alpha", *options.penalty_alpha);
  if (options.length_penalty) require_finite("length_penalty", *options.length_penalty);
  if (options.n_keep && *options.n_keep < -1)
    fail<ArgumentError>("generate", "n_keep is ", *options.n_keep,
                        ", expected 0 or more, or -1 for the whole prompt");
  if (options.num_threads < 0)
    fail<ArgumentError>("generate", "num_threads is ", options.num_threads,
                        ", expected 0 (no limit) or more");
  if (!ops::is_cache_dtype(options.kv_cache_dtype))
    fail<ArgumentError>("generate", "kv_cache_dtype is ", name_of(options.kv_cache_dtype),
                        ", expected float32, float16, bfloat16 or int8");
  if (options.stop_strings) check_strings("stop_strings", *options.stop_strings);
  if (options.dry_sequence_breakers) check_strings("dry_sequence_breakers", *options.dry_sequence_breakers);
  if (options.negative_prompt_ids && options.negative_prompt_ids->empty())
    fail<ArgumentError>("generate", "negative_prompt_ids is an empty list, expected at least one token");
  if (options.do_sample == false) check_sampling_options(options, options.penalty_alpha.value_or(0.0) > 0.0);
  if (options.mirostat == 2) check_no_filters(options);
}

}  // namespace gpt::generate

namespace gpt {

void GenerateOptions::validate() const try {
  const DefaultFloatEnvironment environment;
  generate::check_values(*this);
  // What is left open can only make it worse.
  generate::check_contrast(*this, *this);
  if (num_return_sequences && generate::has_beams(*this)) generate::check_sequences(*this);
  generate::check_beams(*this);
  generate::check_window(*this);
  generate::check_drafts(*this);
  generate::check_beside_grammar(*this);
} catch (...) {
  rethrow_with_memory_errors("generate");
}

std::string_view name_of(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::kLength: return "length";
    case FinishReason::kEos: return "eos";
    case FinishReason::kStopString: return "stop";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "";
}

}  // namespace gpt
