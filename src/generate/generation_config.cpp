#include "generate/generation_config.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/float_environment.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "generate/option_table.h"
#include "generate/settings.h"
#include "gpt/core/error.h"
#include "models/eos_token.h"

namespace gpt::generate {
namespace {

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
    {"encoder_repetition_penalty", Neutral::kNumber, 1.0},
    {"encoder_no_repeat_ngram_size", Neutral::kNumber, 0.0},
    {"top_h", Neutral::kNull, 0.0, true},
    {"remove_invalid_values", Neutral::kFalse},
    {"token_healing", Neutral::kFalse},
    {"constraints"},
    {"dola_layers"},
    {"force_words_ids"},
    {"forced_decoder_ids"},
    {"max_time"},
    {"watermarking_config"},
};

/// Settings that change no result here: about beams, assistants, caches, other architectures and what is
/// returned.
constexpr std::string_view kHarmless[] = {"_commit_hash",
                                          "_from_model_config",
                                          "assistant_early_exit",
                                          "assistant_lookbehind",
                                          "bos_token_id",
                                          "cache_config",
                                          "cache_implementation",
                                          "compile_config",
                                          "continuous_batching_config",
                                          "decoder_start_token_id",
                                          "disable_compile",
                                          "generation_kwargs",
                                          "is_assistant",
                                          "low_memory",
                                          "num_assistant_tokens_schedule",
                                          "output_attentions",
                                          "output_hidden_states",
                                          "output_logits",
                                          "output_scores",
                                          "pad_token_id",
                                          "prefill_chunk_size",
                                          "return_dict_in_generate",
                                          "return_legacy_cache",
                                          "target_lookbehind",
                                          "transformers_version",
                                          "use_cache"};

/// Those that the table of options does not name.
constexpr std::string_view kSupported[] = {"do_sample", "max_length", "max_new_tokens", "min_length",
                                           "min_new_tokens"};

template <std::size_t N>
bool contains(const std::string_view (&keys)[N], std::string_view key) {
  return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
}

bool is_known(std::string_view key) {
  const auto same_key = [key](const UnsupportedKey& entry) { return entry.key == key; };
  bool known = contains(kSupported, key) || contains(kHarmless, key) ||
               std::any_of(std::begin(kUnsupported), std::end(kUnsupported), same_key);
  for_each_option([&](std::string_view name, auto, OptionKind) { known = known || name == key; });
  return known;
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

/// Reads the values of one file that have a form of their own.
class Reader {
 public:
  explicit Reader(const HfConfig& file) : file_(file) {}

  void read(std::string_view key, std::optional<bool>& to) const { to = file_.get_bool(key); }
  void read(std::string_view key, std::optional<std::int64_t>& to) const { to = file_.get_int(key); }
  void read(std::string_view key, std::optional<double>& to) const { to = file_.get_float(key); }
  void read(std::string_view key, std::optional<EarlyStopping>& to) const {
    const auto document = parse(key);
    if (!document) return;
    const auto* text = document->get_if<std::string>();
    if (text != nullptr && *text == "never") {
      to = EarlyStopping::kNever;
    } else if (const auto* on = document->get_if<bool>(); on != nullptr) {
      to = *on ? EarlyStopping::kTrue : EarlyStopping::kFalse;
    } else {
      fail_form(key, *document, "true, false or \"never\"");
    }
  }
  void read(std::string_view key, std::optional<TokenId>& to) const {
    if (const auto id = file_.get_int(key)) to = to_token_id(key, *id);
  }
  void read(std::string_view key, std::optional<std::vector<TokenId>>& to) const {
    const auto values = file_.get_int_list(key);
    if (!values) return;
    to.emplace();
    for (const std::int64_t value : *values) to->push_back(to_token_id(key, value));
  }
  void read(std::string_view key, std::optional<std::vector<std::string>>& to) const {
    if (file_.is_list(key)) {
      to = file_.get_string_list(key);
    } else if (auto text = file_.get_string(key)) {
      to.emplace().push_back(*std::move(text));
    }
  }
  void read(std::string_view key, std::optional<std::vector<std::vector<TokenId>>>& to) const {
    const auto document = parse(key);
    if (!document) return;
    to.emplace();
    for (const json::Value& ids : list(*document, key, "a list of lists of token ids"))
      to->push_back(token_ids(ids, key, "a list of lists of token ids"));
  }
  void read(std::string_view key, std::optional<std::vector<BiasedSequence>>& to) const {
    constexpr const char* kForm = "a list of pairs [[id, ...], bias]";
    const auto document = parse(key);
    if (!document) return;
    to.emplace();
    for (const json::Value& entry : list(*document, key, kForm)) {
      const json::Value::Array& pair = list(entry, key, kForm);
      const auto bias = pair.size() == 2 ? pair[1].to_double() : std::nullopt;
      if (!bias) fail_form(key, entry, kForm);
      to->push_back({token_ids(pair[0], key, kForm), *bias});
    }
  }
  void read(std::string_view key, std::optional<std::map<TokenId, double>>& to) const {
    constexpr const char* kForm = "an object of token ids and numbers: {\"995\": -2.5}";
    const auto document = parse(key);
    if (!document) return;
    const auto* object = document->get_if<json::Value::Object>();
    if (object == nullptr) fail_form(key, *document, kForm);
    to.emplace();
    for (const json::Value::Member& member : *object) {
      TokenId id = 0;
      const char* const end = member.key.data() + member.key.size();
      const auto [rest, error] = std::from_chars(member.key.data(), end, id);
      const auto bias = member.value.to_double();
      if (error != std::errc() || rest != end || !bias || !to->emplace(id, *bias).second)
        fail<FormatError>(file_.source(), key, " holds ", quote(member.key), ": ",
                          json::describe(member.value), ", expected ", kForm, ", each token once");
    }
  }
  void read(std::string_view key, std::optional<ExponentialDecay>& to) const {
    constexpr const char* kForm = "[start index, decay factor], an integer and a number";
    const auto document = parse(key);
    if (!document) return;
    const json::Value::Array& pair = list(*document, key, kForm);
    const auto* start = pair.size() == 2 ? pair[0].get_if<std::int64_t>() : nullptr;
    const auto factor = start != nullptr ? pair[1].to_double() : std::nullopt;
    if (!factor) fail_form(key, *document, kForm);
    to = ExponentialDecay{.start_index = *start, .decay_factor = *factor};
  }

 private:
  std::optional<json::Value> parse(std::string_view key) const {
    const auto text = file_.get_json(key);
    return text ? std::optional(json::parse(*text, file_.source())) : std::nullopt;
  }
  [[noreturn]] void fail_form(std::string_view key, const json::Value& found, const char* expected) const {
    fail<FormatError>(file_.source(), key, " is or holds ", json::describe(found), ", expected ", expected);
  }
  const json::Value::Array& list(const json::Value& value, std::string_view key, const char* expected) const {
    const auto* array = value.get_if<json::Value::Array>();
    if (array == nullptr) fail_form(key, value, expected);
    return *array;
  }
  std::vector<TokenId> token_ids(const json::Value& value, std::string_view key, const char* expected) const {
    std::vector<TokenId> ids;
    for (const json::Value& item : list(value, key, expected)) {
      const auto* id = item.get_if<std::int64_t>();
      if (id == nullptr) fail_form(key, item, expected);
      ids.push_back(to_token_id(key, *id));
    }
    return ids;
  }
  TokenId to_token_id(std::string_view key, std::int64_t value) const {
    if (!std::in_range<TokenId>(value))
      fail<FormatError>(file_.source(), key, " is or holds ", value, ", expected a token id of 32 bits");
    return static_cast<TokenId>(value);
  }

  const HfConfig& file_;
};

/// Calls check(id) for the token ids in a value.
template <class Check, class T>
void for_each_token(const T&, const Check&) {}
template <class Check>
void for_each_token(const TokenId& id, const Check& check) {
  check(id);
}
template <class Check>
void for_each_token(const std::vector<TokenId>& ids, const Check& check) {
  for (const TokenId id : ids) check(id);
}
template <class Check>
void for_each_token(const std::vector<std::vector<TokenId>>& sequences, const Check& check) {
  for (const auto& ids : sequences) for_each_token(ids, check);
}
template <class Check>
void for_each_token(const std::vector<BiasedSequence>& sequences, const Check& check) {
  for (const BiasedSequence& sequence : sequences) for_each_token(sequence.ids, check);
}
template <class Check>
void for_each_token(const std::map<TokenId, double>& biases, const Check& check) {
  for (const auto& entry : biases) check(entry.first);
}

}  // namespace

void check_token_ids(const GenerateOptions& options, std::int64_t vocab_size) {
  const auto check = [vocab_size](std::string_view name, const auto& value) {
    if (!value) return;
    for_each_token(*value, [&](TokenId id) {
      if (id < 0 || id >= vocab_size)
        fail<ArgumentError>("generate", name, " holds the token id ", id, " outside the vocabulary [0, ",
                            vocab_size, ")");
    });
  };
  for_each_option([&](std::string_view name, auto member, OptionKind) {
    if (name != "eos_token_id") check(name, options.*member);
  });
  check("negative_prompt_ids", options.negative_prompt_ids);
}

CheckpointDefaults read_defaults(const Model& model,
                                 const std::function<void(std::string_view message)>& on_warning) {
  const DefaultFloatEnvironment environment;
  CheckpointDefaults defaults;
  if (model.generation_config()) {
    const HfConfig& file = *model.generation_config();
    defaults.source = file.source();
    defaults.options = GenerateOptions::from_config(file);
    GenerateOptions& options = defaults.options;
    if (options.min_new_tokens) options.min_length.reset();  // a file may have both
    GenerateOptions ranges = options;
    if (ranges.max_new_tokens) ranges.max_length.reset();  // the same
    ranges.do_sample
        .reset();  // and a file may have options of sampling without it, and of all kinds beside mirostat
    if (ranges.mirostat == 2) ranges.mirostat.reset();
    try {
      check_values(ranges);
      check_token_ids(options, model.config().vocab_size);
    } catch (const ArgumentError& error) {
      fail<FormatError>(file.source(), error.what());
    }
    for (const UnsupportedKey& entry : kUnsupported) {
      const auto setting = unsupported_setting(file, entry);
      if (!setting) continue;
      if (!entry.sampling_only) fail<UnsupportedError>(file.source(), *setting, " is not supported");
      if (defaults.unsupported_when_sampling.empty()) defaults.unsupported_when_sampling = *setting;
    }
    if (options.eos_token_id)
      warn_of_unreachable_eos(file, *options.eos_token_id, model.config().vocab_size, on_warning);
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

}  // namespace gpt::generate

namespace gpt {

GenerateOptions GenerateOptions::from_config(const HfConfig& config) try {
  const DefaultFloatEnvironment environment;
  const generate::Reader reader(config);
  GenerateOptions options;
  options.max_new_tokens = config.get_int("max_new_tokens");
  options.max_length = config.get_int("max_length");
  options.min_new_tokens = config.get_int("min_new_tokens");
  options.min_length = config.get_int("min_length");
  options.do_sample = config.get_bool("do_sample");
  generate::for_each_option(
      [&](std::string_view name, auto member, generate::OptionKind) { reader.read(name, options.*member); });
  // null: no token ends a sequence, whatever config.json says
  if (!options.eos_token_id && config.has("eos_token_id")) options.eos_token_id.emplace();
  return options;
} catch (...) {
  rethrow_with_memory_errors(config.source());
}

}  // namespace gpt
