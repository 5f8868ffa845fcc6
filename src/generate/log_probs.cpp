#include "generate/log_probs.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "gpt/core/tensor.h"
#include "gpt/ops/softmax.h"

namespace gpt::generate {

LogProbs::LogProbs(std::span<const float> logits) : logits_(logits) {
  const auto width = static_cast<std::int64_t>(logits.size());
  ops::log_sum_exp(ConstTensorView(logits.data(), Shape{1, width}), std::span(&log_sum_, 1));
}

std::vector<TokenLogProb> LogProbs::top(std::size_t count) const {
  std::vector<TokenLogProb> best;
  if (count == 0) return best;
  std::vector<TokenId> ids(logits_.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [this](TokenId x, TokenId y) {
    const float a = logits_[static_cast<std::size_t>(x)], b = logits_[static_cast<std::size_t>(y)];
    return a > b || (a == b && x < y);
  };
  const auto middle = ids.begin() + static_cast<std::ptrdiff_t>(std::min(count, ids.size()));
  std::partial_sort(ids.begin(), middle, ids.end(), better);
  best.reserve(count);
  for (auto id = ids.begin(); id != middle; ++id) best.push_back({*id, of(*id)});
  return best;
}

}  // namespace gpt::generate
