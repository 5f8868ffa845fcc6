#include "generate/processor_list.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "generate/dry_breakers.h"
#include "generate/keep_at_least.h"
#include "gpt/core/error.h"
#include "gpt/generate/logits_processors.h"

namespace gpt::generate {
namespace {

// The defaults of options that are parts of a processor.
constexpr double kDynatempExponent = 1.0, kXtcThreshold = 0.1, kMirostatTau = 5.0, kMirostatEta = 0.1;

Dry::Options dry_options(const GenerateOptions& options) {
  Dry::Options dry;
  dry.multiplier = options.dry_multiplier.value_or(dry.multiplier);
  dry.base = options.dry_base.value_or(dry.base);
  dry.allowed_length = options.dry_allowed_length.value_or(dry.allowed_length);
  dry.penalty_last_n = options.dry_penalty_last_n.value_or(dry.penalty_last_n);
  return dry;
}

FrequencyPenalty frequency_penalty(const GenerateOptions& options) {
  return FrequencyPenalty(options.frequency_penalty.value_or(0.0), options.presence_penalty.value_or(0.0));
}

std::vector<BiasedSequence> sequences_of(const std::map<TokenId, double>& logit_bias) {
  std::vector<BiasedSequence> sequences;
  for (const auto& [id, bias] : logit_bias) {
    sequences.emplace_back().ids.push_back(id);
    sequences.back().bias = bias;
  }
  return sequences;
}

/// A list that grows by what is on.
class List {
 public:
  template <class Processor, class... Arguments>
  void add(Arguments&&... arguments) {
    auto processor = std::make_unique<Processor>(std::forward<Arguments>(arguments)...);
    if (least_kept_ > 1) {
      list_.push_back(std::make_unique<KeepAtLeast>(std::move(processor), least_kept_));
    } else {
      list_.push_back(std::move(processor));
    }
  }
  /// Adds the processor of an option that is set to something else than `off`.
  template <class Processor, class T>
  void add_unless(const std::optional<T>& option, T off) {
    if (option && *option != off) add<Processor>(*option);
  }
  /// From now on, processors that drop tokens keep so many.
  void keep_at_least(std::size_t count) { least_kept_ = count; }
  LogitsProcessors take() { return std::move(list_); }

 private:
  LogitsProcessors list_;
  std::size_t least_kept_ = 1;
};

template <class T>
bool is_given(const std::optional<T>& list) {
  return list && !list->empty();
}

void add_penalties(List& list, const GenerateOptions& options, const Model& model) {
  list.add_unless<ClassifierFreeGuidance>(options.guidance_scale, 1.0);
  if (is_given(options.sequence_bias)) list.add<SequenceBias>(*options.sequence_bias);
  if (is_given(options.logit_bias)) list.add<SequenceBias>(sequences_of(*options.logit_bias));
  if (options.num_beams.value_or(1) > 1 && options.num_beam_groups.value_or(1) > 1)
    list.add<HammingDiversity>(options.diversity_penalty.value_or(0.0));
  list.add_unless<RepetitionPenalty>(options.repetition_penalty, 1.0);
  if (options.frequency_penalty.value_or(0.0) != 0.0 || options.presence_penalty.value_or(0.0) != 0.0)
    list.add<FrequencyPenalty>(frequency_penalty(options));
  if (options.dry_multiplier.value_or(0.0) != 0.0) {
    Dry::Options dry = dry_options(options);
    if (model.has_tokenizer())
      dry.sequence_breakers =
          dry_breakers(model.tokenizer(), options.dry_sequence_breakers.value_or(default_dry_breakers()));
    list.add<Dry>(std::move(dry));
  }
}

void add_constraints(List& list, const GenerateOptions& options, const Model& model) {
  const std::vector<TokenId>& eos = *options.eos_token_id;
  list.add_unless<NoRepeatNGram>(options.no_repeat_ngram_size, std::int64_t{0});
  if (is_given(options.bad_words_ids)) list.add<NoBadWords>(*options.bad_words_ids, eos);
  if (options.min_length.value_or(0) > 0) list.add<MinLength>(*options.min_length, eos);
  if (options.min_new_tokens.value_or(0) > 0) list.add<MinNewTokens>(*options.min_new_tokens, eos);
  if (options.prefix_allowed_tokens_fn) list.add<PrefixConstrained>(options.prefix_allowed_tokens_fn);
  if (options.forced_bos_token_id) list.add<ForcedBos>(*options.forced_bos_token_id);
  if (is_given(options.forced_eos_token_id)) list.add<ForcedEos>(*options.forced_eos_token_id);
  if (options.exponential_decay_length_penalty)
    list.add<ExponentialDecayLengthPenalty>(*options.exponential_decay_length_penalty, eos);
  if (is_given(options.suppress_tokens)) list.add<SuppressTokens>(*options.suppress_tokens);
  if (is_given(options.begin_suppress_tokens))
    list.add<BeginSuppressTokens>(*options.begin_suppress_tokens, options.forced_bos_token_id.has_value());
  if (options.logits_processor) list.add<FunctionProcessor>(options.logits_processor);
  if (options.grammar) list.add<GrammarConstrained>(options.grammar, model.tokenizer(), eos);
}

void add_filters(List& list, const GenerateOptions& options) {
  if (options.dynatemp_range.value_or(0.0) != 0.0) {
    list.add<DynamicTemperature>(options.temperature.value_or(1.0), *options.dynatemp_range,
                                 options.dynatemp_exponent.value_or(kDynatempExponent));
  } else {
    list.add_unless<Temperature>(options.temperature, 1.0);
  }
  if (options.mirostat == 2) {
    list.add<Mirostat>(options.mirostat_tau.value_or(kMirostatTau),
                       options.mirostat_eta.value_or(kMirostatEta));
    return;
  }
  // As transformers: beams need candidates that no eos token ends.
  if (options.num_beams.value_or(1) > 1)
    list.keep_at_least(std::max<std::size_t>(2, 1 + options.eos_token_id->size()));
  list.add_unless<TopNSigma>(options.top_n_sigma, 0.0);
  list.add_unless<TopK>(std::optional(options.top_k.value_or(kDefaultTopK)), std::int64_t{0});
  list.add_unless<TopP>(options.top_p, 1.0);
  list.add_unless<MinP>(options.min_p, 0.0);
  list.add_unless<TypicalP>(options.typical_p, 1.0);
  list.add_unless<EpsilonCutoff>(options.epsilon_cutoff, 0.0);
  list.add_unless<EtaCutoff>(options.eta_cutoff, 0.0);
  if (options.xtc_probability.value_or(0.0) != 0.0)
    list.add<Xtc>(*options.xtc_probability, options.xtc_threshold.value_or(kXtcThreshold));
}

}  // namespace

void check_ranges(const GenerateOptions& options) {
  if (options.temperature) Temperature{*options.temperature};
  if (options.dynatemp_range && *options.dynatemp_range != 0.0)
    DynamicTemperature{1.0, *options.dynatemp_range, 1.0};
  if (options.dynatemp_exponent) DynamicTemperature{1.0, 1.0, *options.dynatemp_exponent};
  if (options.top_n_sigma) TopNSigma{*options.top_n_sigma};
  if (options.top_k) TopK{*options.top_k};
  if (options.top_p) TopP{*options.top_p};
  if (options.min_p) MinP{*options.min_p};
  if (options.typical_p) TypicalP{*options.typical_p};
  if (options.epsilon_cutoff) EpsilonCutoff{*options.epsilon_cutoff};
  if (options.eta_cutoff) EtaCutoff{*options.eta_cutoff};
  Xtc{options.xtc_probability.value_or(0.0), options.xtc_threshold.value_or(kXtcThreshold)};
  if (const std::int64_t version = options.mirostat.value_or(0); version != 0 && version != 2)
    fail<ArgumentError>("generate", "mirostat is ", version, ", expected 0 (off) or 2");
  Mirostat{options.mirostat_tau.value_or(kMirostatTau), options.mirostat_eta.value_or(kMirostatEta)};

  if (options.guidance_scale) ClassifierFreeGuidance{*options.guidance_scale};
  if (options.sequence_bias) SequenceBias{*options.sequence_bias};
  if (options.logit_bias) {
    for (const auto& [id, bias] : *options.logit_bias)
      if (!std::isfinite(bias))
        fail<ArgumentError>("generate", "logit_bias of the token id ", id, " is ", bias,
                            ", expected a finite number");
  }
  if (options.diversity_penalty) HammingDiversity{*options.diversity_penalty};
  if (options.repetition_penalty) RepetitionPenalty{*options.repetition_penalty};
  frequency_penalty(options);
  Dry{dry_options(options)};
  if (options.exponential_decay_length_penalty)
    ExponentialDecayLengthPenalty{*options.exponential_decay_length_penalty, {}};

  if (options.no_repeat_ngram_size) NoRepeatNGram{*options.no_repeat_ngram_size};
  if (options.bad_words_ids) NoBadWords{*options.bad_words_ids};
  if (options.min_length) MinLength{*options.min_length, {}};
  if (options.min_new_tokens) MinNewTokens{*options.min_new_tokens, {}};
}

bool is_guided(const GenerateOptions& options) { return options.guidance_scale.value_or(1.0) != 1.0; }

LogitsProcessors make_processors(const GenerateOptions& options, const Model& model) {
  List list;
  add_penalties(list, options, model);
  add_constraints(list, options, model);
  if (*options.do_sample) add_filters(list, options);
  list.keep_at_least(1);
  if (options.renormalize_logits.value_or(false)) list.add<Renormalize>();
  return list.take();
}

}  // namespace gpt::generate
