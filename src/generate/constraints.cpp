#include "gpt/generate/constraints.h"

#include <algorithm>
#include <utility>

#include "core/memory.h"
#include "generate/processor_support.h"

namespace gpt {

using namespace generate;

NoRepeatNGram::NoRepeatNGram(std::int64_t no_repeat_ngram_size)
    : size_(require_count("no_repeat_ngram_size", no_repeat_ngram_size)) {}

void NoRepeatNGram::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  const auto history = step.history;
  if (size_ == 0 || history.size() < size_) return;
  const auto end = history.last(size_ - 1);
  for (std::size_t last = size_ - 1; last < history.size(); ++last) {
    if (std::equal(end.begin(), end.end(), history.begin() + static_cast<std::ptrdiff_t>(last - end.size())))
      scores[index_of(history[last], scores.size(), kHistory)] = kDropped;
  }
}

NoBadWords::NoBadWords(std::vector<std::vector<TokenId>> bad_words_ids, std::span<const TokenId> eos_token_id)
    : words_(std::move(bad_words_ids)) {
  if (std::any_of(words_.begin(), words_.end(), [](const auto& word) { return word.empty(); }))
    fail<ArgumentError>("generate", "bad_words_ids holds an empty list, expected at least one token in each");
  std::erase_if(words_, [&](const std::vector<TokenId>& word) {
    return word.size() == 1 &&
           std::find(eos_token_id.begin(), eos_token_id.end(), word.front()) != eos_token_id.end();
  });
}

void NoBadWords::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  for (const std::vector<TokenId>& word : words_) {
    double& score = scores[index_of(word.back(), scores.size(), "bad_words_ids")];
    if (would_complete(step.history, word)) score = kDropped;
  }
}

MinLength::MinLength(std::int64_t min_length, std::vector<TokenId> eos_token_id)
    : min_length_(require_count("min_length", min_length)), eos_(std::move(eos_token_id)) {}

void MinLength::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  if (step.history.size() < min_length_) drop(scores, eos_, "eos_token_id");
}

MinNewTokens::MinNewTokens(std::int64_t min_new_tokens, std::vector<TokenId> eos_token_id)
    : min_new_tokens_(require_count("min_new_tokens", min_new_tokens)), eos_(std::move(eos_token_id)) {}

void MinNewTokens::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  if (step.history.size() - step.prompt_length < min_new_tokens_) drop(scores, eos_, "eos_token_id");
}

PrefixConstrained::PrefixConstrained(PrefixAllowedTokensFn prefix_allowed_tokens_fn)
    : allowed_(std::move(prefix_allowed_tokens_fn)) {
  if (!allowed_)
    fail<ArgumentError>("generate", "prefix_allowed_tokens_fn is an empty function, expected one to call");
}

void PrefixConstrained::process(std::span<double> scores, const DecodingStep& step,
                                ProcessorScratch& scratch) const try {
  const std::vector<TokenId> allowed = allowed_(step.sequence, step.history);
  if (allowed.empty())
    fail<ArgumentError>("generate", "prefix_allowed_tokens_fn allows no token at position ",
                        step.history.size(), " of sequence ", step.sequence, ", expected at least one");
  scratch.values.assign(scores.size(), kDropped);
  for (const TokenId id : allowed) {
    const std::size_t index = index_of(id, scores.size(), "prefix_allowed_tokens_fn");
    scratch.values[index] = scores[index];
  }
  std::copy(scratch.values.begin(), scratch.values.end(), scores.begin());
} catch (...) {
  rethrow_with_memory_errors("generate");
}

ForcedBos::ForcedBos(TokenId forced_bos_token_id) : id_(forced_bos_token_id) {}

void ForcedBos::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  if (step.history.size() != 1) return;
  const std::size_t index = index_of(id_, scores.size(), "forced_bos_token_id");
  std::fill(scores.begin(), scores.end(), kDropped);
  scores[index] = 0.0;
}

ForcedEos::ForcedEos(std::vector<TokenId> forced_eos_token_id) : ids_(std::move(forced_eos_token_id)) {
  if (ids_.empty())
    fail<ArgumentError>("generate", "forced_eos_token_id is an empty list, expected at least one token");
}

void ForcedEos::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  if (step.history.size() + 1 != step.max_length) return;
  std::fill(scores.begin(), scores.end(), kDropped);
  for (const TokenId id : ids_) scores[index_of(id, scores.size(), "forced_eos_token_id")] = 0.0;
}

SuppressTokens::SuppressTokens(std::vector<TokenId> suppress_tokens) : ids_(std::move(suppress_tokens)) {}

void SuppressTokens::process(std::span<double> scores, const DecodingStep&, ProcessorScratch&) const {
  drop(scores, ids_, "suppress_tokens");
}

BeginSuppressTokens::BeginSuppressTokens(std::vector<TokenId> begin_suppress_tokens, bool bos_is_forced)
    : ids_(std::move(begin_suppress_tokens)), bos_is_forced_(bos_is_forced) {}

void BeginSuppressTokens::process(std::span<double> scores, const DecodingStep& step,
                                  ProcessorScratch&) const {
  const bool bos_comes_first = bos_is_forced_ && step.prompt_length <= 1;
  if (step.history.size() == step.prompt_length + (bos_comes_first ? 1 : 0))
    drop(scores, ids_, "begin_suppress_tokens");
}

}  // namespace gpt
