#include "generate/log_probs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "gpt/core/rng.h"

namespace gpt::generate {
namespace {

TEST(LogProbs, GivesTheMostProbableTokensBestFirst) {
  const CounterRng rng(1, 2);
  std::vector<float> logits(300);
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = std::floor(static_cast<float>(rng.uniform(i) * 40));  // many are equal
  logits[7] = -std::numeric_limits<float>::infinity();
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  const LogProbs log_probs(logits);
  for (const std::size_t count : {0u, 1u, 2u, 37u, 299u, 300u, 1000u}) {
    const std::vector<TokenLogProb> top = log_probs.top(count);
    ASSERT_EQ(top.size(), std::min(count, logits.size()));
    for (std::size_t i = 0; i < top.size(); ++i) {
      EXPECT_EQ(top[i].id, order[i]) << count << ", " << i;
      EXPECT_EQ(top[i].logprob, log_probs.of(order[i]));
    }
  }
}

}  // namespace
}  // namespace gpt::generate
