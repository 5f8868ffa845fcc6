// Logits processors that forbid tokens, or force them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gpt/generate/logits_processor.h"

namespace gpt {

// The definitions are those of transformers (src/transformers/generation/logits_process.py). Every constructor throws
// ArgumentError naming its option when the value is outside the stated range.

/// Drops the tokens that would make n tokens stand in the sequence, the prompt included, which stand there already. n = 1
/// drops every token of the history.
class NoRepeatNGram final : public LogitsProcessor {
 public:
  explicit NoRepeatNGram(std::int64_t no_repeat_ngram_size);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::size_t size_;
};

/// Drops the last token of a sequence where its others stand before it. A sequence of one token is always dropped, unless it
/// is an eos token: then it does not count. A longer one counts only when the history has at least as many tokens as it.
class NoBadWords final : public LogitsProcessor {
 public:
  explicit NoBadWords(std::vector<std::vector<TokenId>> bad_words_ids,  // none empty
                      std::span<const TokenId> eos_token_id = {});
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::vector<std::vector<TokenId>> words_;
};

/// Drops the eos tokens while the sequence, the prompt included, is shorter than min_length.
class MinLength final : public LogitsProcessor {
 public:
  MinLength(std::int64_t min_length, std::vector<TokenId> eos_token_id);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::size_t min_length_;
  std::vector<TokenId> eos_;
};

/// The same, counting new tokens only.
class MinNewTokens final : public LogitsProcessor {
 public:
  MinNewTokens(std::int64_t min_new_tokens,
               std::vector<TokenId> eos_token_id);  // at least 0; 0 drops nothing
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::size_t min_new_tokens_;
  std::vector<TokenId> eos_;
};

/// Which tokens may follow the tokens of a sequence, given with the index of its prompt in the batch. Must be callable from
/// every thread that generates, and give the same for the same arguments.
using PrefixAllowedTokensFn =
    std::function<std::vector<TokenId>(std::size_t sequence, std::span<const TokenId> tokens)>;

/// Drops what the function does not list (De Cao et al., "Autoregressive entity retrieval", 2021, section 3.2). Throws
/// ArgumentError when it lists nothing, or a token outside the vocabulary; what it throws.
class PrefixConstrained final : public LogitsProcessor {
 public:
  explicit PrefixConstrained(PrefixAllowedTokensFn prefix_allowed_tokens_fn);  // not empty
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  PrefixAllowedTokensFn allowed_;
};

/// After a prompt of one token, leaves this token alone, with the score 0.
class ForcedBos final : public LogitsProcessor {
 public:
  explicit ForcedBos(TokenId forced_bos_token_id);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  TokenId id_;
};

/// Leaves these tokens alone, with the score 0, for the last place before max_length.
class ForcedEos final : public LogitsProcessor {
 public:
  explicit ForcedEos(std::vector<TokenId> forced_eos_token_id);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::vector<TokenId> ids_;
};

/// Drops these tokens.
class SuppressTokens final : public LogitsProcessor {
 public:
  explicit SuppressTokens(std::vector<TokenId> suppress_tokens);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::vector<TokenId> ids_;
};

/// Drops these tokens for the first new token or, when a bos token is forced after a prompt of one token, for the second.
class BeginSuppressTokens final : public LogitsProcessor {
 public:
  explicit BeginSuppressTokens(std::vector<TokenId> begin_suppress_tokens, bool bos_is_forced = false);
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  std::vector<TokenId> ids_;
  bool bos_is_forced_;
};

}  // namespace gpt
