// Beam search over a model: the forward passes and caches around BeamSearch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "generate/beam_search.h"
#include "generate/settings.h"
#include "gpt/core/arena.h"
#include "gpt/core/rng.h"
#include "gpt/core/tensor.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

class BeamSession {
 public:
  /// Checks the prompts as Session does; computes nothing. Throws ArgumentError, and UnsupportedError naming an option that
  /// does not go with beams.
  BeamSession(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts);

  /// num_return_sequences results for each prompt, best first. The prompts are searched one after the other.
  std::vector<GenerateResult> run();

 private:
  /// Beams that compete with one another.
  struct Group {
    BeamSearch search;
    BeamSearch other;  // a step ahead while the step is chosen, a step behind until the caches have followed
    // caches[b] holds all tokens of beam b but the last; empty at the prompt.
    std::vector<nn::KvCache> caches;
  };
  /// The search for one prompt.
  struct Work {
    std::size_t index = 0;
    std::span<const TokenId> prompt;
    std::int64_t max_new_tokens = 0;
    nn::KvCache prompt_cache;
    std::vector<Group> groups;
    std::vector<TokenId> chosen;  // by the groups before, for the place at hand
    GenerateTiming timing = {};
  };

  void search(std::size_t index, std::vector<GenerateResult>& results);
  /// Feeds the prompt. Its last row of logits is that of every beam.
  void prefill(Work& work);
  /// Feeds the last token of every beam that goes on, in the caches of those that they continue.
  void feed(Work& work);
  /// Chooses from the logits what goes on. `first`: they are one row for all. False when it was stopped: no group
  /// has taken the step then.
  bool choose(Work& work, bool first);
  /// The sums of a beam continued by each token, from its logits.
  void continue_beam(const Work& work, const BeamSearch::Beam& beam, std::span<const float> logits,
                     std::span<double> sums);
  /// Gives every beam of the group the cache of the beam that it continues, copying only where that has several continuations.
  /// Throws CancelledError when it was stopped: caches are missing then.
  void hand_on(Work& work, Group& group);
  GenerateResult to_result(const Work& work, BeamSearch::Hypothesis hypothesis);
  void add_log_probs(GenerateResult& result);

  const Model* model_;
  Settings settings_;
  CounterRng rng_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<std::int64_t> max_new_tokens_;  // of each prompt
  Arena arena_;
  ConstTensorView logits_;    // [rows, V], of the last pass
  std::vector<double> sums_;  // [beams, V]
  std::vector<double> weights_;
  std::vector<BeamCandidate> candidates_;
  ProcessorScratch scratch_;
};

}  // namespace gpt::generate
