#include "generate/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "generate/weights.h"
#include "gpt/core/math.h"

namespace gpt::generate {
namespace {

constexpr double kNotYet = -1e9;  // the sum of beams that are copies of the first: any other is better

// length^exponent; exact for the small whole exponents that are in use.
double power(std::size_t length, double exponent) noexcept {
  const auto base = static_cast<double>(length);
  constexpr double kMostFactors = 16.0;
  const double magnitude = std::abs(exponent);
  if (magnitude > kMostFactors || magnitude != std::floor(magnitude))
    return math::exp(exponent * math::log(base));
  double product = 1.0;
  for (double i = 0.0; i < magnitude; ++i) product *= base;
  return exponent < 0.0 ? 1.0 / product : product;
}

BeamCandidate candidate(std::size_t index, std::size_t vocab_size, double sum) noexcept {
  return {index / vocab_size, static_cast<TokenId>(index % vocab_size), sum};
}

bool better(const BeamCandidate& a, const BeamCandidate& b) noexcept {
  if (a.sum != b.sum) return a.sum > b.sum;
  return a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
}

}  // namespace

void best_candidates(std::span<const double> sums, std::size_t beams, std::size_t count,
                     std::vector<BeamCandidate>& candidates) {
  const std::size_t vocab_size = sums.size() / beams;
  candidates.clear();
  for (std::size_t i = 0; i < sums.size(); ++i) {  // a heap, whose front is the worst
    if (sums[i] == kDropped) continue;
    // Later ones have the higher index: an equal sum does not displace what is there.
    if (candidates.size() == count) {
      if (!(sums[i] > candidates.front().sum)) continue;
      std::pop_heap(candidates.begin(), candidates.end(), better);
      candidates.pop_back();
    }
    candidates.push_back(candidate(i, vocab_size, sums[i]));
    std::push_heap(candidates.begin(), candidates.end(), better);
  }
  std::sort_heap(candidates.begin(), candidates.end(), better);
}

bool draw_candidates(std::span<const double> sums, std::size_t beams, std::size_t count,
                     const CounterRng& rng, std::uint64_t first_index, const std::stop_token& stop,
                     std::vector<double>& weights, std::vector<BeamCandidate>& candidates) {
  const std::size_t vocab_size = sums.size() / beams;
  candidates.clear();
  if (max_of(sums) == kDropped) return true;
  weights.resize(sums.size());
  exp_weights(sums, weights);
  while (candidates.size() < count) {
    if (stop.stop_requested()) return false;
    double total = 0.0;
    for (const double weight : weights) total += weight;
    if (total == 0.0) break;
    const std::size_t drawn = invert_cumulative(weights, total, rng.uniform(first_index + candidates.size()));
    weights[drawn] = 0.0;
    candidates.push_back(candidate(drawn, vocab_size, sums[drawn]));
  }
  std::sort(candidates.begin(), candidates.end(), better);
  return true;
}

BeamSearch::BeamSearch(Options options, std::span<const TokenId> prompt)
    : options_(std::move(options)), prompt_length_(prompt.size()), beams_(options_.num_beams) {
  for (std::size_t i = 0; i < beams_.size(); ++i) {
    beams_[i].tokens.assign(prompt.begin(), prompt.end());
    beams_[i].sum = i == 0 ? 0.0 : kNotYet;
  }
}

bool BeamSearch::is_eos(TokenId id) const noexcept {
  return std::find(options_.eos_token_id.begin(), options_.eos_token_id.end(), id) !=
         options_.eos_token_id.end();
}

double BeamSearch::score(double sum, std::size_t length) const noexcept {
  return sum == 0.0 ? 0.0 : sum / power(length, options_.length_penalty);  // the power may be 0 or infinite
}

void BeamSearch::keep(std::vector<TokenId> tokens, double sum, FinishReason reason) {
  const double value = score(sum, tokens.size() - prompt_length_);
  const auto better_than = [value](const Hypothesis& other) { return value > other.score; };
  const auto place = std::find_if(finished_.begin(), finished_.end(), better_than);
  if (finished_.size() == options_.num_beams && place == finished_.end()) return;
  finished_.insert(place, {std::move(tokens), value, reason});
  if (finished_.size() > options_.num_beams) finished_.pop_back();
}

void BeamSearch::advance(std::span<const BeamCandidate> candidates) {
  ++steps_;
  std::vector<Beam> next;
  next.reserve(options_.num_beams);
  for (std::size_t rank = 0; rank < candidates.size() && next.size() < options_.num_beams; ++rank) {
    const BeamCandidate& from = candidates[rank];
    const bool ends = is_eos(from.id);
    if (ends && rank >= options_.num_beams) continue;
    std::vector<TokenId> tokens = beams_[from.beam].tokens;
    tokens.push_back(from.id);
    if (ends) {
      keep(std::move(tokens), from.sum, FinishReason::kEos);
    } else {
      next.push_back({std::move(tokens), from.sum, from.beam});
    }
  }
  beams_ = std::move(next);
  if (finished_.size() == options_.num_beams && !candidates.empty()) {
    const bool longest = options_.early_stopping == EarlyStopping::kNever && options_.length_penalty > 0.0;
    settled_ =
        options_.early_stopping == EarlyStopping::kTrue ||
        finished_.back().score >= score(candidates.front().sum, longest ? options_.max_new_tokens : steps_);
  }
  done_ = settled_ || beams_.empty() || steps_ == options_.max_new_tokens;
}

std::vector<BeamSearch::Hypothesis> BeamSearch::finish(FinishReason reason) {
  if (!settled_ && steps_ > 0) {
    for (Beam& beam : beams_) keep(std::move(beam.tokens), beam.sum, reason);
  }
  beams_.clear();
  done_ = true;
  return std::move(finished_);
}

}  // namespace gpt::generate
