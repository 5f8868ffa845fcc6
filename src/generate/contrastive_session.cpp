#include "generate/contrastive_session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/float_environment.h"
#include "generate/log_probs.h"
#include "generate/non_finite.h"
#include "generate/session_support.h"
#include "generate/stop_strings.h"
#include "generate/weights.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "gpt/text/stream_decoder.h"

namespace gpt::generate {
namespace {

double dot(std::span<const float> a, std::span<const float> b) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

double norm_of(std::span<const float> x) noexcept { return math::sqrt(dot(x, x)); }

}  // namespace

ContrastiveSession::ContrastiveSession(const Model& model, Settings settings,
                                       std::vector<std::vector<TokenId>> prompts)
    : model_(&model), settings_(std::move(settings)), prompts_(std::move(prompts)) {
  const Gpt2Config& config = model.config();
  for (const std::vector<TokenId>& prompt : prompts_) {
    check_prompt(prompt, config);
    const auto length = static_cast<std::int64_t>(prompt.size());
    max_new_tokens_.push_back(max_new_tokens(settings_, length, room_of(model, settings_)));
    if (length + max_new_tokens_.back() > room_of(model, settings_).tokens)
      fail<ArgumentError>("generate", "the prompt's ", counted(length, "token"), " and ",
                          counted(max_new_tokens_.back(), "new one"), " do not fit the context, ",
                          room_of(model, settings_).text(), ": with penalty_alpha the last one is fed too");
  }
}

std::vector<GenerateResult> ContrastiveSession::run() {
  const DefaultFloatEnvironment environment;
  const ThreadLimit limit(settings_.options.num_threads);
  std::vector<GenerateResult> results;
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    Work work;
    work.index = i;
    work.tokens = work.result.prompt_ids = prompts_[i];
    work.max_new_tokens = max_new_tokens_[i];
    search(work);
    if (model_->has_tokenizer()) {
      StreamDecoder decoder = decoder_behind(model_->tokenizer(), work.result.prompt_ids);
      for (const TokenId id : work.result.ids)
        work.result.text += text_or_nothing([&] { return decoder.push(id); });
      work.result.text += decoder.flush();
    }
    results.push_back(std::move(work.result));
  }
  return results;
}

void ContrastiveSession::search(Work& work) {
  GenerateResult& result = work.result;
  std::optional<StopStringMatcher> stop_strings;
  const auto stops = [&](TokenId id) {
    return stop_strings &&
           stop_strings->push(text_or_nothing([&] { return model_->tokenizer().bytes_of(id); }));
  };
  if (model_->has_tokenizer()) {
    stop_strings.emplace(*settings_.options.stop_strings);
    for (const TokenId id : work.tokens) stops(id);
  }
  const auto& eos = *settings_.options.eos_token_id;
  auto start = std::chrono::steady_clock::now();
  result.finish_reason = FinishReason::kCancelled;  // until it comes to an end of its own
  if (!unless_stopped([&] { prefill(work); })) return;
  for (;;) {
    if (!choose(work)) {
      result.finish_reason = FinishReason::kCancelled;
      return;
    }
    const bool first = result.ids.size() == 1;
    (first ? result.timing.prefill_s : result.timing.decode_s) += seconds_since(start);
    if (!first) ++result.timing.decode_tokens;
    start = std::chrono::steady_clock::now();
    const bool at_stop_string = stops(result.ids.back());
    result.finish_reason = std::find(eos.begin(), eos.end(), result.ids.back()) != eos.end()
                               ? FinishReason::kEos
                           : at_stop_string ? FinishReason::kStopString
                                            : FinishReason::kLength;
    if (result.finish_reason != FinishReason::kLength ||
        std::cmp_equal(result.ids.size(), work.max_new_tokens))
      return;
  }
}

void ContrastiveSession::prefill(Work& work) {
  const auto length = static_cast<std::int64_t>(work.tokens.size());
  work.caches.push_back(model_->network().make_cache(
      length + work.max_new_tokens, settings_.options.kv_cache_dtype, settings_.options.adapter.get()));
  for (std::int64_t fed = 0; fed < length;) {
    const std::int64_t count = std::min(length - fed, kTokensPerPass);
    const Chunk chunk{
        .ids = std::span(work.tokens).subspan(static_cast<std::size_t>(fed), static_cast<std::size_t>(count)),
        .cache = &work.caches[0],
        .adapter = settings_.options.adapter.get()};
    arena_.reset();
    const ForwardOutput output = model_->network().forward(
        std::span(&chunk, 1), arena_,
        {.logits = LogitsRows::kLast, .final_hidden = true, .stop = settings_.options.stop});
    fed += count;
    work.result.timing.prefill_tokens = fed;
    const auto rows = ConstTensorView(output.final_hidden).span<float>();
    const std::size_t width = rows.size() / static_cast<std::size_t>(count);
    for (std::size_t row = 0; row < rows.size(); row += width) remember(work, rows.subspan(row, width));
    const auto logits = ConstTensorView(output.logits).span<float>();
    work.logits.assign(logits.begin(), logits.end());
  }
}

void ContrastiveSession::remember(Work& work, std::span<const float> hidden) const {
  work.hidden.insert(work.hidden.end(), hidden.begin(), hidden.end());
  work.norms.push_back(norm_of(hidden));
}

double ContrastiveSession::similarity(const Work& work, std::span<const float> hidden) const {
  const double norm = norm_of(hidden);
  double largest = -1.0;
  for (std::size_t t = 0; t < work.norms.size(); ++t) {
    const double both = norm * work.norms[t];
    const auto before = std::span(work.hidden).subspan(t * hidden.size(), hidden.size());
    largest = std::max(largest, both > 0.0 ? dot(hidden, before) / both : 0.0);
  }
  return largest;
}

void ContrastiveSession::find_candidates(const Work& work) {
  require_finite_logits(work.logits, work.tokens, model_->network());
  scores_.assign(work.logits.begin(), work.logits.end());
  const std::size_t prompt_length = work.result.prompt_ids.size();
  const DecodingStep step{.history = work.tokens,
                          .prompt_length = prompt_length,
                          .max_length = prompt_length + static_cast<std::size_t>(work.max_new_tokens),
                          .sequence = work.index};
  for (const auto& processor : settings_.processors) processor->process(scores_, step, scratch_);
  best_candidates(scores_, 1, static_cast<std::size_t>(contrastive_top_k(settings_.options)), candidates_);
  if (candidates_.empty())
    fail<NumericError>("generate", "the logits processors leave no token at position ", work.tokens.size(),
                       ", expected at least one");
  const double sum = exp_weights(scores_, scores_);
  if (!std::isfinite(sum))
    fail<NumericError>("generate", "the logits processors left a score that is not a number at position ",
                       work.tokens.size());
  for (BeamCandidate& candidate : candidates_)
    candidate.sum = scores_[static_cast<std::size_t>(candidate.id)] / sum;
}

bool ContrastiveSession::choose(Work& work) {
  find_candidates(work);
  std::vector<Chunk> batch;
  work.caches.resize(std::max(work.caches.size(), candidates_.size()));
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    nn::KvCache& cache = work.caches[i];
    const nn::KvCache& right = work.caches[work.chosen];
    if (cache.capacity() == 0)
      cache = model_->network().make_cache(right.capacity(), right.dtype(), settings_.options.adapter.get());
    // Its last token is a candidate that was not taken.
    if (i != work.chosen) cache.copy_from(right, std::max<std::int64_t>(cache.length() - 1, 0));
    batch.push_back({.ids = std::span(&candidates_[i].id, 1),
                     .cache = &cache,
                     .adapter = settings_.options.adapter.get()});
  }
  if (work.chosen >= candidates_.size()) {  // its cache is not fed: the others have its tokens
    work.caches[work.chosen].truncate(0);
  }
  arena_.reset();
  ForwardOutput output;
  const bool computed = unless_stopped([&] {
    output = model_->network().forward(
        batch, arena_, {.logits = LogitsRows::kLast, .final_hidden = true, .stop = settings_.options.stop});
  });
  if (!computed) return false;
  const auto hidden = ConstTensorView(output.final_hidden).span<float>();
  const std::size_t width = hidden.size() / candidates_.size();
  const double alpha = *settings_.options.penalty_alpha;
  double best = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    const double score =
        (1.0 - alpha) * candidates_[i].sum - alpha * similarity(work, hidden.subspan(i * width, width));
    if (score > best) {
      best = score;
      work.chosen = i;
    }
  }
  remember(work, hidden.subspan(work.chosen * width, width));

  GenerateResult& result = work.result;
  const TokenId id = candidates_[work.chosen].id;
  if (settings_.options.logprobs) {
    const LogProbs log_probs(work.logits);
    result.logprobs.push_back(log_probs.of(id));
    result.top_logprobs.push_back(log_probs.top(static_cast<std::size_t>(*settings_.options.logprobs)));
  }
  result.ids.push_back(id);
  work.tokens.push_back(id);
  const auto logits = ConstTensorView(output.logits)
                          .span<float>()
                          .subspan(work.chosen * work.logits.size(), work.logits.size());
  work.logits.assign(logits.begin(), logits.end());
  return true;
}

}  // namespace gpt::generate
