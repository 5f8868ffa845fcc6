#include "gpt/generate/filters.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/float_environment.h"
#include "core/memory.h"
#include "generate/processor_support.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

using namespace generate;

constexpr double kLn2 = 0x1.62e42fefa39efp-1;

double require_below_one(const char* option, double value) {
  if (!(value >= 0.0 && value < 1.0))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a number from 0 (off) to below 1");
  return value;
}

// The best score's index, of equal ones the lowest.
std::size_t index_of_best(std::span<const double> scores) {
  return static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

// A quotient too large for a double would be infinite. Only differences of scores matter, so then the best
// score becomes 0 first.
void divide(std::span<double> scores, double divisor) {
  const double max = max_of(scores);
  if (max == kDropped) return;
  const double shift = std::isfinite(max / divisor) ? 0.0 : max;
  for (double& score : scores) score = (score - shift) / divisor;
}

// H = -sum p log p of the softmax of scores whose exponentials, relative to the best, are `weights`.
double entropy_of(std::span<const double> scores, std::span<const double> weights, double sum,
                  double log_sum) {
  double entropy = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (weights[i] != 0.0) entropy -= weights[i] / sum * (scores[i] - log_sum);
  }
  return entropy;
}

// The softmax and what is computed from it. Lives as long as the scratch is not used for something else.
struct Distribution {
  Distribution(std::span<const double> scores, ProcessorScratch& scratch) {
    scratch.weights.resize(scores.size());
    sum = exp_weights(scores, scratch.weights);
    weights = scratch.weights;
    log_sum = max_of(scores) + math::log(sum);
    entropy = entropy_of(scores, weights, sum, log_sum);
  }
  std::span<const double> weights;  // e^(score - best score), 0 when dropped
  double sum = 0.0;                 // of the weights
  double log_sum = 0.0;             // log sum e^score
  double entropy = 0.0;             // in nats
};

bool all_dropped(std::span<const double> scores) { return max_of(scores) == kDropped; }

// Drops the tokens with p < cutoff, but not the best.
void drop_below(std::span<double> scores, std::span<const double> weights, double sum, double cutoff) {
  const double max = max_of(scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (weights[i] / sum < cutoff && scores[i] < max) scores[i] = kDropped;
  }
}

}  // namespace

Temperature::Temperature(double temperature) : temperature_(require_positive("temperature", temperature)) {}

void Temperature::process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const {
  if (temperature_ != 1.0) divide(scores, temperature_);
}

DynamicTemperature::DynamicTemperature(double temperature, double dynatemp_range, double dynatemp_exponent) {
  const DefaultFloatEnvironment environment;
  const double middle = fixed_here(require_positive("temperature", temperature));
  const double range = require_positive("dynatemp_range", dynatemp_range);
  low_ = fixed_here(std::max(0.0, middle - range));
  high_ = fixed_here(middle + range);
  exponent_ = require_positive("dynatemp_exponent", dynatemp_exponent);
}

void DynamicTemperature::process(std::span<double> scores, const DecodingStep&,
                                 ProcessorScratch& scratch) const try {
  const auto count =
      static_cast<std::int64_t>(scores.size()) - std::count(scores.begin(), scores.end(), kDropped);
  if (count <= 1) return;
  const double entropy = Distribution(scores, scratch).entropy;
  // Rounding may put it outside [0, 1] by an ulp.
  const double certainty = std::clamp(entropy / math::log(static_cast<double>(count)), 0.0, 1.0);
  const double power = exponent_ == 1.0 ? certainty : math::exp(exponent_ * math::log(certainty));
  const double temperature = low_ + (high_ - low_) * power;
  if (temperature > 0.0) return divide(scores, temperature);
  const std::size_t best = index_of_best(scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (i != best) scores[i] = kDropped;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

TopNSigma::TopNSigma(double top_n_sigma) : n_(require_at_least("top_n_sigma", top_n_sigma, 0.0)) {}

void TopNSigma::process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const {
  if (n_ == 0.0 || all_dropped(scores)) return;
  double count = 0.0, sum = 0.0, squares = 0.0;
  for (const double score : scores) {
    if (score == kDropped) continue;
    count += 1.0;
    sum += score;
  }
  const double mean = sum / count;
  for (const double score : scores) {
    if (score != kDropped) squares += (score - mean) * (score - mean);
  }
  const double bar = max_of(scores) - n_ * math::sqrt(squares / count);
  for (double& score : scores) {
    if (score < bar) score = kDropped;
  }
}

TopK::TopK(std::int64_t top_k) : k_(require_count("top_k", top_k)) {}

void TopK::process(std::span<double> scores, const DecodingStep&, ProcessorScratch& scratch) const try {
  if (k_ == 0 || k_ >= scores.size()) return;
  // One pass that keeps the candidates for the k best: when 2k have gathered, the better half stays, and its
  // worst is the bar that later ones must clear. (Equal ones would not change the k-th largest value.)
  const auto kth = static_cast<std::ptrdiff_t>(k_ - 1);
  auto& best = scratch.values;
  best.clear();
  double bar = kDropped;
  const auto keep_best_k = [&] {
    std::nth_element(best.begin(), best.begin() + kth, best.end(), std::greater<>());
    best.resize(k_);
    bar = best.back();
  };
  for (const double score : scores) {
    if (!(score > bar)) continue;
    best.push_back(score);
    if (best.size() >= 2 * k_) keep_best_k();
  }
  if (best.size() >= k_) keep_best_k();
  for (double& score : scores) {
    if (score < bar) score = kDropped;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

TopP::TopP(double top_p) : top_p_(require_probability("top_p", top_p)) {}

void TopP::process(std::span<double> scores, const DecodingStep&, ProcessorScratch& scratch) const try {
  if (top_p_ >= 1.0 || all_dropped(scores)) return;
  scratch.weights.resize(scores.size());
  const std::span<double> weights(scratch.weights);
  const double needed = top_p_ * exp_weights(scores, weights);

  // A heap, since usually few of many tokens are needed: best first, of equal ones the lower id.
  auto& heap = scratch.ids;
  heap.clear();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kDropped) heap.push_back(static_cast<TokenId>(i));
  }
  const auto worse = [&](TokenId a, TokenId b) {
    const double x = scores[static_cast<std::size_t>(a)];
    const double y = scores[static_cast<std::size_t>(b)];
    return x < y || (x == y && a > b);
  };
  std::make_heap(heap.begin(), heap.end(), worse);
  double kept = 0.0;
  do {
    std::pop_heap(heap.begin(), heap.end(), worse);
    kept += weights[static_cast<std::size_t>(heap.back())];
    heap.pop_back();
  } while (!heap.empty() && kept < needed);
  for (const TokenId id : heap) scores[static_cast<std::size_t>(id)] = kDropped;
} catch (...) {
  rethrow_with_memory_errors("generate");
}

MinP::MinP(double min_p) {
  const DefaultFloatEnvironment environment;
  log_min_p_ = math::log(require_probability("min_p", min_p));
}

void MinP::process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const {
  if (log_min_p_ == kDropped || all_dropped(scores)) return;
  // p < min_p p_max is the same as s - s_max < log min_p.
  const double max = max_of(scores);
  for (double& score : scores) {
    if (score - max < log_min_p_) score = kDropped;
  }
}

TypicalP::TypicalP(double typical_p) : typical_p_(typical_p) {
  if (!(typical_p > 0.0 && typical_p <= 1.0))
    fail<ArgumentError>("generate", "typical_p is ", typical_p, ", expected a number above 0, to 1 (off)");
}

void TypicalP::process(std::span<double> scores, const DecodingStep&, ProcessorScratch& scratch) const try {
  if (typical_p_ >= 1.0 || all_dropped(scores)) return;
  const Distribution p(scores, scratch);
  auto& distances = scratch.values;
  distances.resize(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i)
    distances[i] = std::abs((p.log_sum - scores[i]) - p.entropy);  // infinite when dropped

  // A heap as in TopP, nearest first; in what order equally near ones come does not change how far it goes by more than
  // rounding.
  auto& heap = scratch.ids;
  heap.clear();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kDropped) heap.push_back(static_cast<TokenId>(i));
  }
  const auto farther = [&](TokenId a, TokenId b) {
    const double x = distances[static_cast<std::size_t>(a)];
    const double y = distances[static_cast<std::size_t>(b)];
    return x > y || (x == y && a > b);
  };
  std::make_heap(heap.begin(), heap.end(), farther);
  double kept = 0.0, bar = 0.0;
  do {
    std::pop_heap(heap.begin(), heap.end(), farther);
    const auto id = static_cast<std::size_t>(heap.back());
    bar = distances[id];
    kept += p.weights[id] / p.sum;
    heap.pop_back();
  } while (!heap.empty() && kept < typical_p_);
  for (const TokenId id : heap) {
    if (distances[static_cast<std::size_t>(id)] > bar) scores[static_cast<std::size_t>(id)] = kDropped;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

EpsilonCutoff::EpsilonCutoff(double epsilon_cutoff)
    : epsilon_(require_below_one("epsilon_cutoff", epsilon_cutoff)) {}

void EpsilonCutoff::process(std::span<double> scores, const DecodingStep&, ProcessorScratch& scratch) const
    try {
  if (epsilon_ == 0.0 || all_dropped(scores)) return;
  scratch.weights.resize(scores.size());
  const double sum = exp_weights(scores, scratch.weights);
  drop_below(scores, scratch.weights, sum, epsilon_);
} catch (...) {
  rethrow_with_memory_errors("generate");
}

EtaCutoff::EtaCutoff(double eta_cutoff) : epsilon_(require_below_one("eta_cutoff", eta_cutoff)) {}

void EtaCutoff::process(std::span<double> scores, const DecodingStep&, ProcessorScratch& scratch) const try {
  if (epsilon_ == 0.0 || all_dropped(scores)) return;
  const Distribution p(scores, scratch);
  drop_below(scores, p.weights, p.sum, std::min(epsilon_, math::sqrt(epsilon_) * math::exp(-p.entropy)));
} catch (...) {
  rethrow_with_memory_errors("generate");
}

Xtc::Xtc(double xtc_probability, double xtc_threshold)
    : probability_(require_probability("xtc_probability", xtc_probability)),
      threshold_(require_probability("xtc_threshold", xtc_threshold)) {}

void Xtc::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const try {
  if (probability_ == 0.0) return;
  if (step.rng == nullptr) fail<ArgumentError>("generate", "xtc needs random numbers, and the step has none");
  if (!(step.rng->second_uniform(step.history.size()) < probability_)) return;
  scratch.weights.resize(scores.size());
  const double sum = exp_weights(scores, scratch.weights);
  const auto is_top = [&](std::size_t i) {
    return scores[i] != kDropped && scratch.weights[i] / sum >= threshold_;
  };
  std::size_t least = scores.size();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (is_top(i) && (least == scores.size() || scores[i] <= scores[least])) least = i;
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (i != least && is_top(i)) scores[i] = kDropped;
  }
} catch (...) {
  rethrow_with_memory_errors("generate");
}

Mirostat::Mirostat(double mirostat_tau, double mirostat_eta)
    : tau_(require_positive("mirostat_tau", mirostat_tau)),
      eta_(require_positive("mirostat_eta", mirostat_eta)) {}

void Mirostat::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  if (step.state.size() != 1)
    fail<ArgumentError>("generate", "mirostat needs its state of 1 number, found ", step.state.size());
  if (all_dropped(scores)) return;
  const double mu = step.state.front();
  const double log_sum = log_sum_exp(std::span<const double>(scores));
  const std::size_t best = index_of_best(scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (i != best && (log_sum - scores[i]) / kLn2 > mu) scores[i] = kDropped;
  }
}

std::vector<double> Mirostat::initial_state() const {
  return with_memory_errors("generate", [&] { return std::vector<double>{2.0 * tau_}; });
}

void Mirostat::update(std::span<double> state, TokenId, double probability) const {
  const double surprise = -math::log(probability) / kLn2;
  state.front() -= eta_ * (surprise - tau_);
}

void Renormalize::process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const {
  if (all_dropped(scores)) return;
  const double log_sum = log_sum_exp(std::span<const double>(scores));
  for (double& score : scores) score -= log_sum;
}

}  // namespace gpt
