#include "generate/settings.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "gpt/core/error.h"
#include "gpt/ops/attention.h"
#include "models/eos_token.h"

namespace gpt::generate {
namespace {

constexpr std::int64_t kDefaultLength = 20;  // GenerationConfig.max_length

/// A setting of GenerationConfig that libgpt does not have; only its neutral value passes.
struct UnsupportedKey {
  enum class Neutral { kNull, kFalse, kNumber };
  std::string_view key;
  Neutral neutral = Neutral::kNull;
  double number = 0.0;
  bool sampling_only = false;
};
using Neutral = UnsupportedKey::Neutral;

constexpr UnsupportedKey kUnsupported[] = {
    {"num_beams", Neutral::kNumber, 1.0},
    {"num_beam_groups", Neutral::kNumber, 1.0},
    {"num_return_sequences", Neutral::kNumber, 1.0},
    {"diversity_penalty", Neutral::kNumber, 0.0},
    {"encoder_repetition_penalty", Neutral::kNumber, 1.0},
    {"encoder_no_repeat_ngram_size", Neutral::kNumber, 0.0},
    {"no_repeat_ngram_size", Neutral::kNumber, 0.0},
    {"min_length", Neutral::kNumber, 0.0},
    {"min_new_tokens", Neutral::kNumber, 0.0},
    {"penalty_alpha", Neutral::kNumber, 0.0},
    {"guidance_scale", Neutral::kNumber, 1.0},
    {"typical_p", Neutral::kNumber, 1.0, true},
    {"epsilon_cutoff", Neutral::kNumber, 0.0, true},
    {"eta_cutoff", Neutral::kNumber, 0.0, true},
    {"top_h", Neutral::kNull, 0.0, true},
    {"remove_invalid_values", Neutral::kFalse},
    {"token_healing", Neutral::kFalse},
    {"bad_words_ids"},
    {"begin_suppress_tokens"},
    {"constraints"},
    {"dola_layers"},
    {"exponential_decay_length_penalty"},
    {"force_words_ids"},
    {"forced_bos_token_id"},
    {"forced_decoder_ids"},
    {"forced_eos_token_id"},
    {"max_time"},
    {"prompt_lookup_num_tokens"},
    {"sequence_bias"},
    {"suppress_tokens"},
    {"watermarking_config"},
};

/// Settings that change no result here: about beams, assistants, caches, other architectures and what is
/// returned.
constexpr std::string_view kHarmless[] = {"_commit_hash",
                                          "_from_model_config",
                                          "assistant_confidence_threshold",
                                          "assistant_early_exit",
                                          "assistant_lookbehind",
                                          "bos_token_id",
                                          "cache_config",
                                          "cache_implementation",
                                          "compile_config",
                                          "continuous_batching_config",
                                          "decoder_start_token_id",
                                          "disable_compile",
                                          "early_stopping",
                                          "generation_kwargs",
                                          "is_assistant",
                                          "length_penalty",
                                          "low_memory",
                                          "max_matching_ngram_size",
                                          "num_assistant_tokens",
                                          "num_assistant_tokens_schedule",
                                          "output_attentions",
                                          "output_hidden_states",
                                          "output_logits",
                                          "output_scores",
                                          "pad_token_id",
                                          "prefill_chunk_size",
                                          "renormalize_logits",
                                          "return_dict_in_generate",
                                          "return_legacy_cache",
                                          "target_lookbehind",
                                          "transformers_version",
                                          "use_cache"};

constexpr std::string_view kSupported[] = {
    "do_sample",          "eos_token_id", "max_length",  "max_new_tokens", "min_p",
    "repetition_penalty", "stop_strings", "temperature", "top_k",          "top_p"};

template <std::size_t N>
bool contains(const std::string_view (&keys)[N], std::string_view key) {
  return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
}

bool is_known(std::string_view key) {
  const auto same_key = [key](const UnsupportedKey& entry) { return entry.key == key; };
  return contains(kSupported, key) || contains(kHarmless, key) ||
         std::any_of(std::begin(kUnsupported), std::end(kUnsupported), same_key);
}

// "key = value" when the file sets the key to something that changes the result.
std::optional<std::string> unsupported_setting(const HfConfig& file, const UnsupportedKey& entry) {
  switch (entry.neutral) {
    case Neutral::kNull:
      if (!file.is_null(entry.key)) return std::string(entry.key);
      break;
    case Neutral::kFalse:
      if (file.get_bool(entry.key).value_or(false)) return concat(entry.key, " = true");
      break;
    case Neutral::kNumber:
      if (const auto value = file.get_float(entry.key); value && *value != entry.number)
        return concat(entry.key, " = ", *value);
      break;
  }
  return std::nullopt;
}

std::vector<TokenId> to_token_ids(const HfConfig& file, const std::vector<std::int64_t>& values) {
  std::vector<TokenId> ids;
  ids.reserve(values.size());
  for (const std::int64_t value : values) {
    if (!std::in_range<TokenId>(value))
      fail<FormatError>(file.source(), "eos_token_id is ", value, ", expected a token id of 32 bits");
    ids.push_back(static_cast<TokenId>(value));
  }
  return ids;
}

GenerateOptions read_options(const HfConfig& file) {
  GenerateOptions options;
  options.max_new_tokens = file.get_int("max_new_tokens");
  if (options.max_new_tokens && *options.max_new_tokens < 1)
    fail<FormatError>(file.source(), "max_new_tokens is ", *options.max_new_tokens, ", expected at least 1");
  options.max_length = file.get_int("max_length");
  options.do_sample = file.get_bool("do_sample");
  options.temperature = file.get_float("temperature");
  options.top_k = file.get_int("top_k");
  options.top_p = file.get_float("top_p");
  options.min_p = file.get_float("min_p");
  options.repetition_penalty = file.get_float("repetition_penalty");
  if (const auto ids = file.get_int_list("eos_token_id")) {
    options.eos_token_id = to_token_ids(file, *ids);
  } else if (file.has("eos_token_id")) {
    options.eos_token_id.emplace();  // null: no token ends a sequence, whatever config.json says
  }
  if (file.is_list("stop_strings")) {
    options.stop_strings = file.get_string_list("stop_strings");
  } else if (auto text = file.get_string("stop_strings")) {
    options.stop_strings.emplace().push_back(*std::move(text));
  }
  return options;
}

void check_stop_strings(const std::vector<std::string>& stop_strings) {
  if (std::any_of(stop_strings.begin(), stop_strings.end(), [](const auto& text) { return text.empty(); }))
    fail<ArgumentError>("generate",
                        "stop_strings holds an empty string, which would stop every text at once");
}

template <class T>
void take_default(std::optional<T>& value, const std::optional<T>& from) {
  if (!value) value = from;
}

void check_sampling_options(const GenerateOptions& options) {
  const auto refuse = [](const char* option) {
    fail<ArgumentError>("generate", option,
                        " is set but do_sample is off: a sampling option needs do_sample");
  };
  if (options.temperature) refuse("temperature");
  if (options.top_k) refuse("top_k");
  if (options.top_p) refuse("top_p");
  if (options.min_p) refuse("min_p");
}

LogitsProcessors make_processors(const GenerateOptions& options) {
  LogitsProcessors list;
  const double repetition_penalty = options.repetition_penalty.value_or(1.0);
  if (repetition_penalty != 1.0) list.push_back(std::make_unique<RepetitionPenalty>(repetition_penalty));
  if (!*options.do_sample) return list;
  const double temperature = options.temperature.value_or(1.0);
  if (temperature != 1.0) list.push_back(std::make_unique<Temperature>(temperature));
  const std::int64_t top_k = options.top_k.value_or(50);
  if (top_k != 0) list.push_back(std::make_unique<TopK>(top_k));
  const double top_p = options.top_p.value_or(1.0);
  if (top_p != 1.0) list.push_back(std::make_unique<TopP>(top_p));
  const double min_p = options.min_p.value_or(0.0);
  if (min_p != 0.0) list.push_back(std::make_unique<MinP>(min_p));
  return list;
}

}  // namespace

CheckpointDefaults read_defaults(const Model& model,
                                 const std::function<void(std::string_view message)>& on_warning) {
  CheckpointDefaults defaults;
  if (model.generation_config()) {
    const HfConfig& file = *model.generation_config();
    defaults.source = file.source();
    defaults.options = read_options(file);
    GenerateOptions ranges = defaults.options;
    if (ranges.max_new_tokens) ranges.max_length.reset();  // a file may have both
    ranges.do_sample.reset();                              // and options of sampling without it
    try {
      ranges.validate();
    } catch (const ArgumentError& error) {
      fail<FormatError>(file.source(), error.what());
    }
    for (const UnsupportedKey& entry : kUnsupported) {
      const auto setting = unsupported_setting(file, entry);
      if (!setting) continue;
      if (!entry.sampling_only) fail<UnsupportedError>(file.source(), *setting, " is not supported");
      if (defaults.unsupported_when_sampling.empty()) defaults.unsupported_when_sampling = *setting;
    }
    if (defaults.options.eos_token_id)
      warn_of_unreachable_eos(file, *defaults.options.eos_token_id, model.config().vocab_size, on_warning);
    if (on_warning) {
      for (const std::string& key : file.keys()) {
        if (!is_known(key) && !file.is_null(key))
          on_warning(concat("[", file.source(), "] unknown key \"", key, "\" is ignored"));
      }
    }
  }
  if (!defaults.options.eos_token_id) defaults.options.eos_token_id = model.config().eos_token_id;
  return defaults;
}

Settings resolve(const GenerateOptions& options, const CheckpointDefaults& defaults, const Model& model) {
  options.validate();
  const std::int64_t vocab_size = model.config().vocab_size;
  if (options.eos_token_id) {
    for (const TokenId id : *options.eos_token_id) {
      if (id < 0 || id >= vocab_size)
        fail<ArgumentError>("generate", "eos_token_id ", id, " is outside the vocabulary [0, ", vocab_size,
                            ")");
    }
  }
  if (options.logprobs && *options.logprobs > vocab_size)
    fail<ArgumentError>("generate", "logprobs is ", *options.logprobs, ", the vocabulary has ", vocab_size,
                        " tokens");

  Settings settings{.options = options, .processors = {}, .length_source = {}};
  GenerateOptions& merged = settings.options;
  const GenerateOptions& file = defaults.options;
  merged.do_sample = options.do_sample.value_or(file.do_sample.value_or(false));
  if (!*merged.do_sample) check_sampling_options(options);
  if (*merged.do_sample && !defaults.unsupported_when_sampling.empty())
    fail<UnsupportedError>(defaults.source, defaults.unsupported_when_sampling, " is not supported");
  take_default(merged.temperature, file.temperature);
  take_default(merged.top_k, file.top_k);
  take_default(merged.top_p, file.top_p);
  take_default(merged.min_p, file.min_p);
  take_default(merged.repetition_penalty, file.repetition_penalty);
  take_default(merged.eos_token_id, file.eos_token_id);
  take_default(merged.stop_strings, file.stop_strings);
  if (!merged.stop_strings) merged.stop_strings.emplace();
  check_stop_strings(*merged.stop_strings);
  if (!merged.stop_strings->empty() && !model.has_tokenizer())
    fail<UnsupportedError>("generate", "stop_strings need a tokenizer, and the checkpoint has none");
  if (!options.max_new_tokens && !options.max_length) {
    settings.length_source = concat(" of ", defaults.source);
    merged.max_new_tokens = file.max_new_tokens;
    if (!file.max_new_tokens && file.max_length != kDefaultLength) merged.max_length = file.max_length;
  }
  settings.processors = make_processors(merged);
  return settings;
}

std::int64_t max_new_tokens(const Settings& settings, std::int64_t prompt_length, std::int64_t n_positions) {
  const GenerateOptions& options = settings.options;
  if (prompt_length > n_positions)
    fail<ArgumentError>("generate", "the prompt has ", prompt_length,
                        " tokens, the context holds n_positions = ", n_positions);
  if (!options.max_new_tokens && !options.max_length)
    return std::clamp<std::int64_t>(n_positions - prompt_length, 1, kDefaultLength);
  if (!options.max_new_tokens && *options.max_length <= prompt_length)
    fail<ArgumentError>("generate", "max_length", settings.length_source, " is ", *options.max_length,
                        ", which leaves no room for a new token after the prompt's ", prompt_length);
  const std::int64_t count =
      options.max_new_tokens ? *options.max_new_tokens : *options.max_length - prompt_length;
  if (count > n_positions + 1 - prompt_length)
    fail<ArgumentError>("generate", "the prompt's ", prompt_length, " tokens and ", count, " new ones",
                        settings.length_source, " do not fit the context: n_positions = ", n_positions,
                        " leaves room for ", n_positions + 1 - prompt_length, " new tokens");
  return count;
}

}  // namespace gpt::generate

namespace gpt {

void GenerateOptions::validate() const {
  if (max_new_tokens && max_length)
    fail<ArgumentError>("generate", "max_new_tokens = ", *max_new_tokens, " and max_length = ", *max_length,
                        " are both set; give one of them");
  if (max_new_tokens && *max_new_tokens < 1)
    fail<ArgumentError>("generate", "max_new_tokens is ", *max_new_tokens, ", expected at least 1");
  if (max_length && *max_length < 1)
    fail<ArgumentError>("generate", "max_length is ", *max_length, ", expected at least 1");
  // The processors know their options' ranges.
  if (temperature) Temperature{*temperature};
  if (top_k) TopK{*top_k};
  if (top_p) TopP{*top_p};
  if (min_p) MinP{*min_p};
  if (repetition_penalty) RepetitionPenalty{*repetition_penalty};
  if (logprobs && *logprobs < 0)
    fail<ArgumentError>("generate", "logprobs is ", *logprobs, ", expected 0 or more");
  if (num_threads < 0)
    fail<ArgumentError>("generate", "num_threads is ", num_threads, ", expected 0 (no limit) or more");
  if (!ops::is_cache_dtype(kv_cache_dtype))
    fail<ArgumentError>("generate", "kv_cache_dtype is ", name_of(kv_cache_dtype),
                        ", expected float32, float16, bfloat16 or int8");
  if (stop_strings) generate::check_stop_strings(*stop_strings);
  if (do_sample == false) generate::check_sampling_options(*this);
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
