// A filter that must leave something to choose from: transformers' min_tokens_to_keep.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "generate/weights.h"
#include "gpt/generate/logits_processor.h"

namespace gpt::generate {

/// What another processor keeps and, where that is fewer than `count` tokens, the `count` best of those that came, with the
/// scores that they came with. For processors that drop tokens, leave the others' scores and remember nothing.
class KeepAtLeast final : public LogitsProcessor {
 public:
  KeepAtLeast(std::unique_ptr<const LogitsProcessor> processor, std::size_t count)
      : processor_(std::move(processor)), count_(count) {}

  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override {
    const std::vector<double> before(scores.begin(), scores.end());
    processor_->process(scores, step, scratch);
    const auto kept =
        scores.size() - static_cast<std::size_t>(std::count(scores.begin(), scores.end(), kDropped));
    if (kept >= std::min(count_, scores.size())) return;
    std::vector<double> best = before;
    const auto last = best.begin() + static_cast<std::ptrdiff_t>(std::min(count_, best.size())) - 1;
    std::nth_element(best.begin(), last, best.end(), std::greater<>());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (before[i] >= *last) scores[i] = before[i];
    }
  }

 private:
  std::unique_ptr<const LogitsProcessor> processor_;
  std::size_t count_;
};

}  // namespace gpt::generate
