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
  const auto better = [this](TokenId x, TokenId y) {
    const float a = logits_[static_cast<std::size_t>(x)], b = logits_[static_cast<std::size_t>(y)];
    return a > b || (a == b && x < y);
  };
  count = std::min(count, logits_.size());
  std::vector<TokenId> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  std::make_heap(ids.begin(), ids.end(), better);  // the worst of the best so far comes first
  for (std::size_t i = count; count > 0 && i < logits_.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!better(id, ids.front())) continue;
    std::pop_heap(ids.begin(), ids.end(), better);
    ids.back() = id;
    std::push_heap(ids.begin(), ids.end(), better);
  }
  std::sort_heap(ids.begin(), ids.end(), better);
  std::vector<TokenLogProb> best;
  best.reserve(count);
  for (const TokenId id : ids) best.push_back({id, of(id)});
  return best;
}

}  // namespace gpt::generate
