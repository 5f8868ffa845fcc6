// How likely a text is to a model: log-probabilities, perplexity, and the likelihood of continuations.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"

namespace gpt {

/// How far an evaluation has come.
struct EvaluationProgress {
  std::int64_t done = 0;  // tokens, sequences or questions, as the function says
  std::int64_t total = 0;
};

/// Called in the default floating-point environment. What it throws ends the work and reaches the caller.
using EvaluationProgressCallback = std::function<void(const EvaluationProgress&)>;

/// How a text is laid under windows, and what else concerns the work. Windows of max_length tokens begin every `stride`
/// tokens, until one reaches the text's end. In each those tokens are scored that no window before held, except a window's
/// very first, which has nothing to be predicted from. So no token is scored twice; with stride < max_length all but the
/// text's first are, given at least max_length - stride tokens where the text has them, and with stride == max_length the
/// first of every window is left out.
struct ScoreOptions {
  std::int64_t max_length = 0;                  // tokens of a window, 2 to n_positions; 0: n_positions
  std::int64_t stride = 0;                      // 1 to max_length; 0: half of max_length
  EvaluationProgressCallback on_progress = {};  // counts tokens; after every batch of windows
  std::stop_token stop = {};                    // asked before every matrix product
};

/// Windows, stride and scored tokens as in the guide "Perplexity of fixed-length models" of transformers' documentation.
struct Perplexity {
  double nll = 0;           // the sum of -log p of the scored tokens, in nats
  std::int64_t tokens = 0;  // of the text
  std::int64_t scored = 0;  // of them
  std::int64_t windows = 0;

  /// In nats per scored token; NaN when there is none.
  double mean_nll() const noexcept;
  /// e^mean_nll
  double value() const noexcept;
};

/// The perplexity of a text of at least 2 tokens. The mean is over the scored tokens, each of the same weight (the guide's loop
/// weighs the windows after the first by one token less than they score). Memory is needed for a few windows and for the
/// logits of some rows, however long the text is. -log p of a token is as in language_model_loss; the sum is taken in double,
/// in the order of the text. Throws ArgumentError (options out of their ranges, fewer than 2 tokens, a token id outside
/// [0, V)); NumericError naming the first token whose log-probability is not finite, and the network's first parameter that
/// is not; CancelledError; MemoryError.
Perplexity perplexity(const Gpt2& network, std::span<const TokenId> ids, const ScoreOptions& options = {});

/// log p(ids[t] | ids[0..t)) in nats for t = 1, 2, ..: element t - 1 is that of ids[t]. In a text longer than max_length a token
/// is given what its window holds before it. Throws as perplexity, and ArgumentError for stride == max_length when there is more
/// than one window.
std::vector<double> token_log_probs(const Gpt2& network, std::span<const TokenId> ids,
                                    const ScoreOptions& options = {});

struct RankedToken {
  TokenId id = 0;
  double log_prob = 0;  // nats

  friend bool operator==(const RankedToken&, const RankedToken&) = default;
};

/// A token of a text, and what the model would rather have had in its place.
struct ScoredToken {
  RankedToken token;
  std::vector<RankedToken> top;  // the most probable ones, of equal ones the lower id first
};

/// token_log_probs with the top_n most probable tokens beside each. Throws as that, and ArgumentError for a top_n outside [0, V].
std::vector<ScoredToken> score_tokens(const Gpt2& network, std::span<const TokenId> ids, std::int64_t top_n,
                                      const ScoreOptions& options = {});

/// What is continued, and by what.
struct ScoredContinuation {
  std::span<const TokenId> context;       // at least 1 token; the last ones count when all do not fit
  std::span<const TokenId> continuation;  // 1 to n_positions tokens
};

/// For each the sum over its continuation of log p(token | what stands before) in nats. A pair longer than n_positions + 1
/// tokens loses tokens at the beginning of its context, as lm-evaluation-harness does it. Progress counts pairs; max_length and
/// stride must be 0. Throws as perplexity; ArgumentError also for an empty context, and a continuation that is empty or longer
/// than n_positions.
std::vector<double> continuation_log_probs(const Gpt2& network, std::span<const ScoredContinuation> pairs,
                                           const ScoreOptions& options = {});

}  // namespace gpt
