// One row of scores through one logits processor.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "gpt/core/rng.h"
#include "gpt/generate/logits_processor.h"

namespace gpt::test {

inline constexpr double kDropped = -std::numeric_limits<double>::infinity();
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

inline std::vector<double> run(const LogitsProcessor& processor, std::vector<double> scores,
                               const DecodingStep& step) {
  ProcessorScratch scratch;
  processor.process(scores, step, scratch);
  return scores;
}

inline std::vector<double> run(const LogitsProcessor& processor, std::vector<double> scores,
                               const std::vector<TokenId>& history = {}) {
  return run(processor, std::move(scores), DecodingStep{.history = history});
}

inline std::vector<TokenId> kept(const std::vector<double>& scores) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kDropped) ids.push_back(static_cast<TokenId>(i));
  }
  return ids;
}

inline std::vector<double> random_scores(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<double> scores(n);
  for (std::size_t i = 0; i < n; ++i)
    scores[i] = static_cast<double>(static_cast<float>(3.0 * rng.normal(i)));
  return scores;
}

}  // namespace gpt::test
