// What stands between the network's logits and the choice of a token: transformations of one row of scores.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

/// Memory that processors use during a call and leave allocated, so that a steady state allocates nothing.
/// Its content means nothing between calls.
struct ProcessorScratch {
  std::vector<double> values;
  std::vector<double> weights;
  std::vector<TokenId> ids;
};

/// One transformation of the scores of the next token, for example a filter. It knows nothing of the other
/// processors, holds no state between calls, and may be shared between sequences and threads.
class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  /// Changes `scores` in place.
  ///   scores   [V]: unnormalized log-probabilities, finite or -infinity = dropped, at least one of them
  ///   finite history  all tokens of the sequence so far, the prompt's first
  /// Throws ArgumentError naming a token of the history outside [0, V).
  virtual void process(std::span<double> scores, std::span<const TokenId> history,
                       ProcessorScratch& scratch) const = 0;
};

/// Processors in the order in which they work.
using LogitsProcessors = std::vector<std::unique_ptr<const LogitsProcessor>>;

// The definitions are those of transformers (src/transformers/generation/logits_process.py), with
// min_tokens_to_keep = 1. Every constructor throws ArgumentError naming its option when the value is outside
// the stated range (NaN is outside every range).

/// s < 0 ? s penalty : s / penalty, once for every distinct token of the history (Keskar et al., "CTRL: A
/// conditional transformer language model for controllable generation", 2019, section 4.1).
class RepetitionPenalty final : public LogitsProcessor {
 public:
  explicit RepetitionPenalty(double repetition_penalty);  // above 0; 1 changes nothing
  void process(std::span<double> scores, std::span<const TokenId> history,
               ProcessorScratch& scratch) const override;

 private:
  double penalty_;
};

/// s / temperature.
class Temperature final : public LogitsProcessor {
 public:
  explicit Temperature(double temperature);  // above 0; 1 changes nothing
  void process(std::span<double> scores, std::span<const TokenId> history,
               ProcessorScratch& scratch) const override;

 private:
  double temperature_;
};

/// Drops what is below the k-th largest score. Scores equal to it stay, so that more than k may.
class TopK final : public LogitsProcessor {
 public:
  explicit TopK(std::int64_t top_k);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, std::span<const TokenId> history,
               ProcessorScratch& scratch) const override;

 private:
  std::size_t k_;
};

/// Keeps the most probable tokens, as few as reach the probability top_p together, and at least one; among
/// equal scores those with the lower ids (Holtzman et al., "The curious case of neural text degeneration",
/// 2020, section 3.1).
class TopP final : public LogitsProcessor {
 public:
  explicit TopP(double top_p);  // 0 to 1; 1 drops nothing
  void process(std::span<double> scores, std::span<const TokenId> history,
               ProcessorScratch& scratch) const override;

 private:
  double top_p_;
};

/// Drops the tokens less probable than min_p times the most probable one (Nguyen et al., "Turning up the
/// heat: min-p sampling for creative and coherent LLM outputs", 2024).
class MinP final : public LogitsProcessor {
 public:
  explicit MinP(double min_p);  // 0 to 1; 0 drops nothing
  void process(std::span<double> scores, std::span<const TokenId> history,
               ProcessorScratch& scratch) const override;

 private:
  double log_min_p_;
};

}  // namespace gpt
