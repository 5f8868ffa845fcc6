#include "gpt/generate/penalties.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "generate/processor_support.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

using namespace generate;

constexpr double kLargest = std::numeric_limits<double>::max();

// base^exponent for base > 0 by squaring: the same operations for every exponent on every system.
double power(double base, std::size_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// counts[k], k >= 1: how many of the last tokens also stand before place k from the end, that is the longest common prefix of
// the tokens read backwards and of the same from k on (the Z-array of the reversed text; Gusfield, "Algorithms on strings,
// trees, and sequences", 1997, section 1.4). Linear in the number of tokens.
void count_repeats(std::span<const TokenId> tokens, std::vector<std::int32_t>& counts) {
  const std::size_t n = tokens.size();
  const auto back = [&](std::size_t i) { return tokens[n - 1 - i]; };
  counts.assign(n, 0);
  std::size_t begin = 0, end = 0;  // of the match that reaches furthest
  for (std::size_t k = 1; k < n; ++k) {
    std::size_t length = 0;
    if (k < end) length = std::min(end - k, static_cast<std::size_t>(counts[k - begin]));
    while (k + length < n && back(length) == back(k + length)) ++length;
    if (k + length > end) {
      begin = k;
      end = k + length;
    }
    counts[k] = static_cast<std::int32_t>(length);
  }
}

}  // namespace

ClassifierFreeGuidance::ClassifierFreeGuidance(double guidance_scale)
    : scale_(require_finite("guidance_scale", guidance_scale)) {}

void ClassifierFreeGuidance::process(std::span<double> scores, const DecodingStep& step,
                                     ProcessorScratch&) const {
  if (scale_ == 1.0) return;
  const auto other = step.unconditional_logits;
  if (other.size() != scores.size())
    fail<ArgumentError>("generate", "guidance_scale needs the logits after the negative prompt: found ",
                        other.size(), ", expected V = ", scores.size());
  const double log_sum = log_sum_exp(std::span<const double>(scores));
  const double other_log_sum = log_sum_exp(other);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double s = scores[i] - log_sum;
    const double u = static_cast<double>(other[i]) - other_log_sum;
    scores[i] = s == kDropped || u == kDropped ? kDropped : u + scale_ * (s - u);
  }
}

SequenceBias::SequenceBias(std::vector<BiasedSequence> sequence_bias) try
    : sequences_(std::move(sequence_bias)) {
  std::set<std::span<const TokenId>, bool (*)(std::span<const TokenId>, std::span<const TokenId>)> seen(
      [](std::span<const TokenId> a, std::span<const TokenId> b) {
        return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
      });
  for (const BiasedSequence& sequence : sequences_) {
    if (sequence.ids.empty())
      fail<ArgumentError>("generate", "sequence_bias holds an empty sequence, expected at least one token");
    if (!std::isfinite(sequence.bias))
      fail<ArgumentError>("generate", "sequence_bias holds the bias ", sequence.bias,
                          ", expected a finite number");
    if (!seen.insert(sequence.ids).second)
      fail<ArgumentError>("generate", "sequence_bias holds a sequence of ", sequence.ids.size(),
                          " tokens twice that begins with ", sequence.ids.front(), ", expected each once");
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

void SequenceBias::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  for (const BiasedSequence& sequence : sequences_) {
    double& score = scores[index_of(sequence.ids.back(), scores.size(), "sequence_bias")];
    if (would_complete(step.history, sequence.ids)) score += sequence.bias;
  }
}

HammingDiversity::HammingDiversity(double diversity_penalty)
    : penalty_(require_at_least("diversity_penalty", diversity_penalty, 0.0)) {}

void HammingDiversity::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  for (const TokenId id : step.chosen_by_groups)
    scores[index_of(id, scores.size(), "the groups before")] -= penalty_;
}

RepetitionPenalty::RepetitionPenalty(double repetition_penalty)
    : penalty_(require_positive("repetition_penalty", repetition_penalty)) {}

void RepetitionPenalty::process(std::span<double> scores, const DecodingStep& step,
                                ProcessorScratch& scratch) const try {
  if (penalty_ == 1.0) return;
  const auto ids = sorted(step.history, scratch.ids);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && ids[i] == ids[i - 1]) continue;
    double& score = scores[index_of(ids[i], scores.size(), kHistory)];
    score = score < 0.0 ? score * penalty_ : score / penalty_;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

FrequencyPenalty::FrequencyPenalty(double frequency_penalty, double presence_penalty)
    : frequency_(require_finite("frequency_penalty", frequency_penalty)),
      presence_(require_finite("presence_penalty", presence_penalty)) {}

void FrequencyPenalty::process(std::span<double> scores, const DecodingStep& step,
                               ProcessorScratch& scratch) const try {
  if (frequency_ == 0.0 && presence_ == 0.0) return;
  const auto ids =
      sorted(step.history.subspan(std::min(step.prompt_length, step.history.size())), scratch.ids);
  for (auto id = ids.begin(); id != ids.end();) {
    const auto next = std::upper_bound(id, ids.end(), *id);
    const auto count = static_cast<double>(next - id);
    scores[index_of(*id, scores.size(), kHistory)] -= frequency_ * count + presence_;
    id = next;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

Dry::Dry(Options options) try : options_(std::move(options)), max_exponent_(0) {
  const DefaultFloatEnvironment environment;
  require_at_least("dry_multiplier", options_.multiplier, 0.0);
  require_at_least("dry_base", options_.base, 1.0);
  require_count("dry_allowed_length", options_.allowed_length);
  if (options_.penalty_last_n < -1)
    fail<ArgumentError>("generate", "dry_penalty_last_n is ", options_.penalty_last_n,
                        ", expected 0 (off) or more, or -1 (all)");
  // llama.cpp clamps the exponent so that the power fits a float, and does not where the base is next to 1.
  constexpr double kLogOfLargestFloat = 88.7228391, kNextToOne = 1.000001;
  max_exponent_ = options_.base > kNextToOne
                      ? static_cast<std::size_t>(kLogOfLargestFloat / math::log(options_.base))
                      : std::numeric_limits<std::size_t>::max();
  for (const std::vector<TokenId>& breaker : options_.sequence_breakers) {
    if (breaker.empty())
      fail<ArgumentError>("generate",
                          "dry_sequence_breakers holds an empty "
                          "one, expected at least one token");
    breakers_[breaker.front()].emplace_back(breaker.begin() + 1, breaker.end());
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

std::size_t Dry::tokens_since_breaker(std::span<const TokenId> tokens) const {
  if (breakers_.empty()) return tokens.size();
  for (std::size_t i = 0; i < tokens.size(); ++i) {  // i tokens stand behind this one
    const auto tails = breakers_.find(tokens[tokens.size() - 1 - i]);
    if (tails == breakers_.end()) continue;
    const auto behind = tokens.last(i);
    std::optional<std::size_t> longest;
    for (const std::vector<TokenId>& tail : tails->second) {
      if (tail.size() <= i && std::equal(tail.begin(), tail.end(), behind.begin()))
        longest = std::max(longest.value_or(0), tail.size());
    }
    if (longest) return i - *longest;
  }
  return tokens.size();
}

void Dry::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const try {
  if (options_.multiplier == 0.0) return;
  const auto tokens = step.history.last(
      options_.penalty_last_n < 0
          ? step.history.size()
          : std::min(step.history.size(), static_cast<std::size_t>(options_.penalty_last_n)));
  const auto allowed = static_cast<std::size_t>(options_.allowed_length);
  if (tokens.size() <= allowed) return;
  const std::size_t limit = tokens_since_breaker(tokens);
  if (limit < allowed) return;

  auto& counts = scratch.counts;
  count_repeats(tokens, counts);
  const auto repeat = [&](std::int32_t k) {
    return std::min(static_cast<std::size_t>(counts[static_cast<std::size_t>(k)]), limit);
  };
  // The token behind an earlier occurrence of the end would continue the repetition; of several, the longest counts.
  const auto token_behind = [&](std::int32_t k) {
    return tokens[tokens.size() - static_cast<std::size_t>(k)];
  };
  auto& places = scratch.ids;
  places.clear();
  for (std::size_t k = 1; k < tokens.size(); ++k) {
    if (const auto place = static_cast<std::int32_t>(k); repeat(place) >= allowed) places.push_back(place);
  }
  std::sort(places.begin(), places.end(), [&](std::int32_t a, std::int32_t b) {
    const TokenId x = token_behind(a), y = token_behind(b);
    return x < y || (x == y && repeat(a) > repeat(b));
  });
  for (std::size_t i = 0; i < places.size(); ++i) {
    const TokenId id = token_behind(places[i]);
    if (i > 0 && id == token_behind(places[i - 1])) continue;
    double& score = scores[index_of(id, scores.size(), kHistory)];
    const auto tails = breakers_.find(id);
    if (tails != breakers_.end() && std::any_of(tails->second.begin(), tails->second.end(),
                                                [](const auto& tail) { return tail.empty(); }))
      continue;
    const std::size_t exponent = std::min(repeat(places[i]) - allowed, max_exponent_);
    score -= options_.multiplier * power(options_.base, exponent);
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

ExponentialDecayLengthPenalty::ExponentialDecayLengthPenalty(
    const ExponentialDecay& exponential_decay_length_penalty, std::vector<TokenId> eos_token_id)
    : decay_(exponential_decay_length_penalty), eos_(std::move(eos_token_id)) {
  if (decay_.start_index < 0)
    fail<ArgumentError>("generate", "exponential_decay_length_penalty starts at ", decay_.start_index,
                        ", expected 0 new tokens or more");
  if (!(decay_.decay_factor > 0.0) || !std::isfinite(decay_.decay_factor))
    fail<ArgumentError>("generate", "exponential_decay_length_penalty has the factor ", decay_.decay_factor,
                        ", expected a finite number above 0");
}

void ExponentialDecayLengthPenalty::process(std::span<double> scores, const DecodingStep& step,
                                            ProcessorScratch&) const {
  const std::size_t start = step.prompt_length + static_cast<std::size_t>(decay_.start_index);
  if (step.history.size() <= start) return;
  const double growth = power(decay_.decay_factor, step.history.size() - start) - 1.0;
  for (const TokenId id : eos_) {
    double& score = scores[index_of(id, scores.size(), "eos_token_id")];
    // An infinite growth times a score of 0 would be no number.
    if (score != kDropped && score != 0.0) score = std::min(score + std::abs(score) * growth, kLargest);
  }
}

}  // namespace gpt
