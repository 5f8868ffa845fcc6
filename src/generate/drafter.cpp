#include "generate/drafter.h"

#include <algorithm>
#include <cstdint>
#include <stop_token>
#include <utility>

#include "generate/session_support.h"
#include "generate/weights.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/sampler.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {
namespace {

constexpr std::int64_t kMaxMatchingNgramSize = 2, kNumAssistantTokens = 20;
constexpr double kAssistantConfidenceThreshold = 0.4;

/// Guesses that what followed the last tokens where they stood before follows them again: the last `ngram_size` or, where those
/// did not occur, fewer, and the latest place of them (transformers' PromptLookupCandidateGenerator takes the first).
class PromptLookup final : public Drafter {
 public:
  PromptLookup(std::size_t count, std::size_t ngram_size) : count_(count), ngram_size_(ngram_size) {}

  void propose(std::span<const TokenId> tokens, std::size_t most, const CounterRng*,
               std::vector<TokenId>& draft) override {
    const std::size_t count = std::min(count_, most);
    for (std::size_t n = std::min(ngram_size_, tokens.size() - 1); n > 0; --n) {
      const auto last = tokens.last(n);
      for (std::size_t end = tokens.size() - 1; end >= n; --end) {  // they stood before this place
        if (!std::equal(last.begin(), last.end(), tokens.begin() + static_cast<std::ptrdiff_t>(end - n)))
          continue;
        const auto follow = tokens.subspan(end, std::min(count, tokens.size() - end));
        draft.insert(draft.end(), follow.begin(), follow.end());
        return;
      }
    }
  }

 private:
  std::size_t count_;
  std::size_t ngram_size_;
};

/// Guesses what a smaller model says, which draws by the same random numbers (transformers' AssistedCandidateGenerator).
class AssistantModel final : public Drafter {
 public:
  AssistantModel(const GenerateOptions& options, std::size_t max_length)
      : network_(&options.assistant_model->network()),
        count_(static_cast<std::size_t>(options.num_assistant_tokens.value_or(kNumAssistantTokens))),
        threshold_(options.assistant_confidence_threshold.value_or(kAssistantConfidenceThreshold)),
        temperature_(options.temperature.value_or(1.0)),
        stop_(options.stop),
        cache_(network_->make_cache(static_cast<std::int64_t>(max_length))) {}

  void propose(std::span<const TokenId> tokens, std::size_t most, const CounterRng* rng,
               std::vector<TokenId>& draft) override {
    const auto room = static_cast<std::size_t>(cache_.capacity());
    if (tokens.size() > room) return;
    const auto same = static_cast<std::size_t>(
        std::mismatch(fed_.begin(), fed_.end(), tokens.begin(), tokens.end()).first - fed_.begin());
    const std::size_t kept = std::min(same, tokens.size() - 1);
    cache_.truncate(static_cast<std::int64_t>(kept));
    fed_.assign(tokens.begin(), tokens.end());
    std::size_t begin = kept;
    for (std::size_t i = 0; i < std::min(count_, most) && fed_.size() <= room; ++i) {
      const auto logits = feed(begin);
      begin = fed_.size();
      const auto [id, probability] = choose(logits, rng);
      draft.push_back(id);
      fed_.push_back(id);
      if (probability < threshold_) break;
    }
    fed_.resize(static_cast<std::size_t>(cache_.length()));  // the last guess was not fed
  }

 private:
  struct Choice {
    TokenId id = 0;
    double probability = 0.0;
  };

  /// The logits after all of fed_, from `begin` on of which is new to the cache.
  std::span<const float> feed(std::size_t begin) {
    for (;;) {
      const std::size_t count = std::min(fed_.size() - begin, static_cast<std::size_t>(kTokensPerPass));
      const bool last = begin + count == fed_.size();
      const Chunk chunk{.ids = std::span(fed_).subspan(begin, count), .cache = &cache_};
      arena_.reset();
      const ForwardOutput output =
          network_->forward(std::span(&chunk, 1), arena_,
                            {.logits = last ? LogitsRows::kLast : LogitsRows::kNone, .stop = stop_});
      if (last) return ConstTensorView(output.logits).span<float>();
      begin += count;
    }
  }

  Choice choose(std::span<const float> logits, const CounterRng* rng) {
    weights_.assign(logits.begin(), logits.end());
    for (double& weight : weights_) weight /= temperature_;
    const auto best = static_cast<std::size_t>(argmax(weights_));
    const double sum = exp_weights(weights_, weights_);
    const std::size_t id =
        rng != nullptr ? invert_cumulative(weights_, sum, rng->uniform(fed_.size())) : best;
    return {static_cast<TokenId>(id), weights_[id] / sum};
  }

  const Gpt2* network_;
  std::size_t count_;
  double threshold_;
  double temperature_;
  std::stop_token stop_;
  nn::KvCache cache_;
  std::vector<TokenId> fed_;  // what the cache holds
  std::vector<double> weights_;
  Arena arena_;
};

}  // namespace

bool has_drafts(const GenerateOptions& options) {
  return options.prompt_lookup_num_tokens.value_or(0) > 0 || options.assistant_model != nullptr;
}

std::unique_ptr<Drafter> make_drafter(const GenerateOptions& options, std::size_t vocab_size,
                                      std::size_t max_length) {
  if (!has_drafts(options)) return nullptr;
  if (options.assistant_model == nullptr)
    return std::make_unique<PromptLookup>(
        static_cast<std::size_t>(*options.prompt_lookup_num_tokens),
        static_cast<std::size_t>(options.max_matching_ngram_size.value_or(kMaxMatchingNgramSize)));
  if (const std::int64_t other = options.assistant_model->config().vocab_size;
      !std::cmp_equal(other, vocab_size))
    fail<ArgumentError>("generate", "assistant_model has a vocabulary of ", other, " tokens, expected ",
                        vocab_size);
  return std::make_unique<AssistantModel>(options, max_length);
}

}  // namespace gpt::generate
