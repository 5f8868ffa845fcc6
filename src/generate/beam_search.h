// The rule of beam search: which continuations go on and which are finished. It sees scores, not the network.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"

namespace gpt::generate {

/// One beam continued by one token.
struct BeamCandidate {
  std::size_t beam = 0;
  TokenId id = 0;
  double sum = 0.0;  // the beam's sum of log-probabilities, this token's included
};

/// The `count` best of the beams' continuations, best first, of equal ones the lower beam, then the lower token. Fewer where
/// scores are dropped.
///   sums  [beams, V]: row b holds the sums of beam b continued by each token
void best_candidates(std::span<const double> sums, std::size_t beams, std::size_t count,
                     std::vector<BeamCandidate>& candidates);

/// The same, but drawn one after the other without replacement from softmax(sums): draw j inverts the cumulative weights of
/// what is left at rng.uniform(first_index + j). `weights` is memory to work in. False when it was stopped.
bool draw_candidates(std::span<const double> sums, std::size_t beams, std::size_t count,
                     const CounterRng& rng, std::uint64_t first_index, const std::stop_token& stop,
                     std::vector<double>& weights, std::vector<BeamCandidate>& candidates);

/// The search for one prompt, or one of its groups of beams: transformers' BeamSearchScorer and BeamHypotheses.
class BeamSearch {
 public:
  struct Options {
    std::size_t num_beams = 1;
    double length_penalty = 1.0;
    EarlyStopping early_stopping = EarlyStopping::kFalse;
    std::size_t max_new_tokens = 1;
    std::vector<TokenId> eos_token_id = {};
  };
  struct Beam {
    std::vector<TokenId> tokens;  // the prompt's first
    double sum = 0.0;
    std::size_t parent = 0;  // which of the beams before the last advance() this one continues
  };
  struct Hypothesis {
    std::vector<TokenId> tokens;  // the prompt's first, an eos token last where one ended it
    double score = 0.0;
    FinishReason reason = FinishReason::kLength;
  };

  /// All beams stand at the prompt, with the sums 0, -1e9, -1e9, ...
  BeamSearch(Options options, std::span<const TokenId> prompt);

  /// How many candidates a step looks at: enough for num_beams that no eos token ends.
  std::size_t candidates_per_step() const noexcept {
    return std::max<std::size_t>(2, 1 + options_.eos_token_id.size()) * options_.num_beams;
  }
  const Options& options() const noexcept { return options_; }
  std::span<const Beam> beams() const noexcept { return beams_; }

  /// Takes one step with the candidates, best first. Candidates that end in an eos token become hypotheses, when they are among
  /// the first num_beams; of the others the first num_beams are the new beams.
  void advance(std::span<const BeamCandidate> candidates);

  /// Whether more steps can change nothing, or there are none.
  bool done() const noexcept { return done_; }
  /// Ends the search: what goes on becomes a hypothesis too unless the search is done by itself. Best first.
  std::vector<Hypothesis> finish(FinishReason reason);

 private:
  bool is_eos(TokenId id) const noexcept;
  double score(double sum, std::size_t length) const noexcept;
  /// Keeps the hypothesis if it is one of the num_beams best; of equal ones the first.
  void keep(std::vector<TokenId> tokens, double sum, FinishReason reason);

  Options options_;
  std::size_t prompt_length_ = 0;
  std::size_t steps_ = 0;
  bool done_ = false;
  bool settled_ = false;  // no open beam may become a hypothesis any more
  std::vector<Beam> beams_;
  std::vector<Hypothesis> finished_;  // best first
};

}  // namespace gpt::generate
