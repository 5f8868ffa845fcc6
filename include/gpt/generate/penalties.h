// Logits processors that move scores: guidance, biases and penalties.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "gpt/generate/logits_processor.h"

namespace gpt {

// Where nothing else is said, the definitions are those of transformers (src/transformers/generation/logits_process.py).
// Every constructor throws ArgumentError naming its option when the value is outside the stated range (NaN is outside every
// range, and every number is finite). What is dropped stays dropped.

/// u + guidance_scale (s - u), s being the log softmax of the scores and u that of the step's unconditional logits; what
/// either drops is dropped (Sanchez et al., "Stay on topic with classifier-free guidance", 2023, equation 7;
/// UnbatchedClassifierFreeGuidanceLogitsProcessor). Throws ArgumentError when the step has no unconditional logits [V].
class ClassifierFreeGuidance final : public LogitsProcessor {
 public:
  explicit ClassifierFreeGuidance(double guidance_scale);  // any number; 1 changes nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double scale_;
};

/// A sequence of tokens and what is added to the score of its last one where the others stand before it.
struct BiasedSequence {
  std::vector<TokenId> ids;
  double bias = 0.0;
};

/// s + the biases of the sequences that the token would complete. A sequence of one token always counts, a longer one only
/// when the history has at least as many tokens as it.
class SequenceBias final : public LogitsProcessor {
 public:
  explicit SequenceBias(std::vector<BiasedSequence> sequence_bias);  // no sequence empty, none given twice
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::vector<BiasedSequence> sequences_;
};

/// s - diversity_penalty * (how many of step.chosen_by_groups are this token): keeps the groups of a diverse beam search apart
/// (Vijayakumar et al., "Diverse beam search", 2018, section 4; HammingDiversityLogitsProcessor).
class HammingDiversity final : public LogitsProcessor {
 public:
  explicit HammingDiversity(double diversity_penalty);  // at least 0; 0 changes nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double penalty_;
};

/// s < 0 ? s penalty : s / penalty, once for every distinct token of the history (Keskar et al., "CTRL: A
/// conditional transformer language model for controllable generation", 2019, section 4.1).
class RepetitionPenalty final : public LogitsProcessor {
 public:
  explicit RepetitionPenalty(double repetition_penalty);  // above 0; 1 changes nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double penalty_;
};

/// s - (frequency_penalty c + presence_penalty) for every token that occurs c > 0 times among the new ones, behind the prompt
/// (OpenAI API reference, "Frequency and presence penalties").
class FrequencyPenalty final : public LogitsProcessor {
 public:
  FrequencyPenalty(double frequency_penalty, double presence_penalty);  // any numbers; 0 and 0 change nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double frequency_;
  double presence_;
};

/// "Don't repeat yourself": s - multiplier base^(n - allowed_length) for a token that would continue a repetition of n >=
/// allowed_length tokens, n being the longest end of the last penalty_last_n tokens that also stands before an earlier
/// occurrence of the token in them. A repetition counts only back to the end of the last sequence breaker, and a breaker of
/// one token is never penalized (llama.cpp, "dry").
class Dry final : public LogitsProcessor {
 public:
  struct Options {
    double multiplier = 0.0;                                   // at least 0; 0 changes nothing
    double base = 1.75;                                        // at least 1
    std::int64_t allowed_length = 2;                           // at least 0
    std::int64_t penalty_last_n = -1;                          // at least 0 (0 changes nothing), or -1: all
    std::vector<std::vector<TokenId>> sequence_breakers = {};  // none empty
  };
  explicit Dry(Options options);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  /// How many of the last tokens stand behind the last breaker in them.
  std::size_t tokens_since_breaker(std::span<const TokenId> tokens) const;

  Options options_;
  std::size_t max_exponent_;  // beyond it base^exponent would not fit a float
  /// What follows the first token in each breaker, by that token.
  std::unordered_map<TokenId, std::vector<std::vector<TokenId>>> breakers_;
};

/// Where a length penalty begins and how fast it grows.
struct ExponentialDecay {
  std::int64_t start_index = 0;  // new tokens without it, at least 0
  double decay_factor = 1.0;     // above 0; above 1 makes an end more likely
};

/// s + |s| (decay_factor^n - 1) for the eos tokens, n = number of new tokens so far - start_index, where that is above 0; the
/// largest double where it would be more.
class ExponentialDecayLengthPenalty final : public LogitsProcessor {
 public:
  ExponentialDecayLengthPenalty(const ExponentialDecay& exponential_decay_length_penalty,
                                std::vector<TokenId> eos_token_id);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  ExponentialDecay decay_;
  std::vector<TokenId> eos_;
};

}  // namespace gpt
