// Contrastive search over a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "generate/beam_search.h"
#include "generate/settings.h"
#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

class ContrastiveSession {
 public:
  /// Checks the prompts as Session does, and that every new token can be fed; computes nothing. Throws ArgumentError.
  ContrastiveSession(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts);

  /// One result for each prompt, one after the other.
  std::vector<GenerateResult> run();

 private:
  /// One sequence, and copies of its cache in which the candidates are tried.
  struct Work {
    std::size_t index = 0;
    std::vector<TokenId> tokens;  // the prompt's first
    std::int64_t max_new_tokens = 0;
    std::vector<nn::KvCache> caches;
    std::size_t chosen = 0;     // whose cache holds all tokens; of the others, all but the last are right
    std::vector<float> hidden;  // [tokens, D], the final hidden states
    std::vector<double> norms;  // [tokens], theirs
    std::vector<float> logits;  // [V], after the last token
    GenerateResult result;
  };

  void search(Work& work);
  void prefill(Work& work);
  /// The candidates for the next token and the probabilities that they have after the processors.
  void find_candidates(const Work& work);
  /// Feeds all candidates and appends the one that is best; false when the caller stops it.
  bool choose(Work& work);
  void remember(Work& work, std::span<const float> hidden) const;
  /// The largest cosine between a hidden state and those of the tokens so far.
  double similarity(const Work& work, std::span<const float> hidden) const;

  const Model* model_;
  Settings settings_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<std::int64_t> max_new_tokens_;  // of each prompt
  Arena arena_;
  std::vector<double> scores_;
  std::vector<BeamCandidate> candidates_;  // with probabilities for sums
  ProcessorScratch scratch_;
};

}  // namespace gpt::generate
