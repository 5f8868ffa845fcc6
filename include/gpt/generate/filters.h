// Logits processors that sampling alone uses: temperatures, and filters that drop improbable tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpt/generate/logits_processor.h"

namespace gpt {

// Where nothing else is said, the definitions are those of transformers (src/transformers/generation/logits_process.py), with
// min_tokens_to_keep = 1. p is the softmax of the scores as they come. Every constructor throws ArgumentError naming its
// option when the value is outside the stated range (NaN is outside every range). Scores that are all dropped stay so.

/// s / temperature.
class Temperature final : public LogitsProcessor {
 public:
  explicit Temperature(double temperature);  // above 0; 1 changes nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double temperature_;
};

/// s / t with t = low + (high - low) (H / log n)^exponent, low = max(0, temperature - range), high = temperature + range, H
/// the entropy of p and n the number of tokens not dropped: the less certain the network, the hotter. t = 0 leaves the best
/// token, of equal ones the lowest; n = 1 changes nothing (llama.cpp, "temp-ext").
class DynamicTemperature final : public LogitsProcessor {
 public:
  DynamicTemperature(double temperature, double dynatemp_range, double dynatemp_exponent);  // each above 0
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double low_;
  double high_;
  double exponent_;
};

/// Drops what is more than top_n_sigma standard deviations (divisor n, over the tokens not dropped) below the best score (Tang
/// et al., "Top-nσ: not all logits are you need", 2024; llama.cpp, "top-n-sigma").
class TopNSigma final : public LogitsProcessor {
 public:
  explicit TopNSigma(double top_n_sigma);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double n_;
};

/// Drops what is below the k-th largest score. Scores equal to it stay, so that more than k may.
class TopK final : public LogitsProcessor {
 public:
  explicit TopK(std::int64_t top_k);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::size_t k_;
};

/// Keeps the most probable tokens, as few as reach the probability top_p together, and at least one; among
/// equal scores those with the lower ids (Holtzman et al., "The curious case of neural text degeneration",
/// 2020, section 3.1).
class TopP final : public LogitsProcessor {
 public:
  explicit TopP(double top_p);  // 0 to 1; 1 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double top_p_;
};

/// Drops the tokens less probable than min_p times the most probable one (Nguyen et al., "Turning up the
/// heat: min-p sampling for creative and coherent LLM outputs", 2024).
class MinP final : public LogitsProcessor {
 public:
  explicit MinP(double min_p);  // 0 to 1; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double log_min_p_;
};

/// Keeps the tokens whose surprise -log p is nearest to the entropy H = -sum p log p, as few as reach the probability
/// typical_p together, and those as near as the last of them (Meister et al., "Locally typical sampling", 2023).
class TypicalP final : public LogitsProcessor {
 public:
  explicit TypicalP(double typical_p);  // above 0, to 1; 1 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double typical_p_;
};

/// Drops the tokens with p < epsilon_cutoff, but not the best (Hewitt et al., "Truncation sampling as language model
/// desmoothing", 2022, section 4.1).
class EpsilonCutoff final : public LogitsProcessor {
 public:
  explicit EpsilonCutoff(double epsilon_cutoff);  // 0 to below 1; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double epsilon_;
};

/// Drops the tokens with p < min(e, sqrt(e) exp(-H)), e = eta_cutoff and H the entropy of p, but not the best (Hewitt et al.,
/// section 4.2).
class EtaCutoff final : public LogitsProcessor {
 public:
  explicit EtaCutoff(double eta_cutoff);  // 0 to below 1; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double epsilon_;
};

/// "Exclude top choices": with the probability xtc_probability, drops all tokens with p >= xtc_threshold except the least
/// probable of them, of equal ones the highest id (llama.cpp, "xtc"). Throws ArgumentError when the step has no random
/// numbers.
class Xtc final : public LogitsProcessor {
 public:
  Xtc(double xtc_probability, double xtc_threshold);  // each 0 to 1; probability 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  double probability_;
  double threshold_;
};

/// Mirostat 2.0: drops the tokens whose surprise -log2 p is above mu, but not the best (of equal ones the lowest). mu begins
/// at 2 tau; after a choice it becomes mu - eta (surprise - tau), with the surprise of the chosen token among those that were
/// kept (Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity", 2021; llama.cpp,
/// "mirostat-v2"). Remembers mu.
class Mirostat final : public LogitsProcessor {
 public:
  Mirostat(double mirostat_tau, double mirostat_eta);  // each above 0
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;
  std::vector<double> initial_state() const override;
  void update(std::span<double> state, TokenId id, double probability) const override;

 private:
  double tau_;
  double eta_;
};

/// s - log sum exp s: the scores are log-probabilities again (LogitNormalization).
class Renormalize final : public LogitsProcessor {
 public:
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;
};

}  // namespace gpt
