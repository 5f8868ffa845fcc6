#include "gpt/generate/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "generate/weights.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

using generate::exp_weights;
using generate::kDropped;

double require_positive(const char* option, double value) {
  if (!(value > 0.0) || !std::isfinite(value))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a finite number above 0");
  return value;
}

double require_probability(const char* option, double value) {
  if (!(value >= 0.0 && value <= 1.0))
    fail<ArgumentError>("generate", option, " is ", value, ", expected a number from 0 to 1");
  return value;
}

std::size_t require_count(const char* option, std::int64_t value) {
  if (value < 0) fail<ArgumentError>("generate", option, " is ", value, ", expected 0 (off) or more");
  return static_cast<std::size_t>(value);
}

double max_of(std::span<const double> scores) { return *std::max_element(scores.begin(), scores.end()); }

}  // namespace

RepetitionPenalty::RepetitionPenalty(double repetition_penalty)
    : penalty_(require_positive("repetition_penalty", repetition_penalty)) {}

void RepetitionPenalty::process(std::span<double> scores, std::span<const TokenId> history,
                                ProcessorScratch& scratch) const {
  if (penalty_ == 1.0) return;
  auto& seen = scratch.ids;
  seen.assign(history.begin(), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const TokenId id : seen) {
    if (id < 0 || static_cast<std::size_t>(id) >= scores.size())
      fail<ArgumentError>("generate", "token id ", id, " of the history is outside the vocabulary [0, ",
                          scores.size(), ")");
    double& score = scores[static_cast<std::size_t>(id)];
    score = score < 0.0 ? score * penalty_ : score / penalty_;
  }
}

Temperature::Temperature(double temperature) : temperature_(require_positive("temperature", temperature)) {}

void Temperature::process(std::span<double> scores, std::span<const TokenId>, ProcessorScratch&) const {
  if (temperature_ == 1.0) return;
  // A quotient too large for a double would be infinite. Only differences of scores matter, so then the best
  // score becomes 0 first.
  const double max = max_of(scores);
  const double shift = std::isfinite(max / temperature_) ? 0.0 : max;
  for (double& score : scores) score = (score - shift) / temperature_;
}

TopK::TopK(std::int64_t top_k) : k_(require_count("top_k", top_k)) {}

void TopK::process(std::span<double> scores, std::span<const TokenId>, ProcessorScratch& scratch) const {
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
}

TopP::TopP(double top_p) : top_p_(require_probability("top_p", top_p)) {}

void TopP::process(std::span<double> scores, std::span<const TokenId>, ProcessorScratch& scratch) const {
  if (top_p_ >= 1.0) return;
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
}

MinP::MinP(double min_p) : log_min_p_(math::log(require_probability("min_p", min_p))) {}

void MinP::process(std::span<double> scores, std::span<const TokenId>, ProcessorScratch&) const {
  if (log_min_p_ == kDropped) return;
  // p < min_p p_max is the same as s - s_max < log min_p.
  const double max = max_of(scores);
  for (double& score : scores) {
    if (score - max < log_min_p_) score = kDropped;
  }
}

}  // namespace gpt
