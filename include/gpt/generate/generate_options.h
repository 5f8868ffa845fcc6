// What a caller may ask of a generation, and what comes back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/dtype.h"
#include "gpt/core/token.h"
#include "gpt/generate/constraints.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/generate/penalties.h"
#include "gpt/io/hf_config.h"

namespace gpt {

class CompiledGrammar;
class Model;
namespace nn {
class Adapter;
}

/// A token and the logarithm of the probability that the network gave it: log softmax of the raw logits,
/// before any processor (so -infinity stands for no token that a filter dropped, and temperature does not
/// show).
struct TokenLogProb {
  TokenId id = 0;
  double logprob = 0.0;
};

/// One generated token.
struct Piece {
  TokenId id = 0;
  std::size_t sequence = 0;  // index of its result: that of its prompt in a batch, times num_return_sequences
  /// The text that became certain with this token: whole characters of valid UTF-8, without special tokens.
  /// Empty when the model has no tokenizer. The last piece of a sequence also brings what was held back; not of one that is
  /// cancelled, which no token ends: what was held back then is at the end of GenerateResult::text alone.
  std::string text = {};
  /// Set when GenerateOptions::logprobs is.
  std::optional<double> logprob = {};
  /// The options.logprobs most probable tokens at this place, best first, of equal ones the lower id.
  std::vector<TokenLogProb> top_logprobs = {};
};

/// When a beam search stops that holds num_beams finished hypotheses.
enum class EarlyStopping : std::uint8_t {
  kFalse,  // when the best candidate's score at its present length is no better than the worst of them
  kTrue,   // at once
  kNever,  // when no beam can become better than the worst of them; the exact search
};

/// Names, defaults and meaning as in transformers' GenerationConfig. What is unset comes from the
/// checkpoint's generation_config.json, and what that does not have is the default given here. Such keys in config.json, of
/// which transformers makes a GenerationConfig where that file is missing, have no effect: LoadOptions::on_warning names each.
struct GenerateOptions {
  /// New tokens at most, at least 1. The prompt and these must fit the context: prompt + max_new_tokens <=
  /// n_positions + 1, since the last token is not fed; or see sliding_window. When no length is set anywhere:
  /// 20, or fewer where the sequence would become longer than n_positions.
  std::optional<std::int64_t> max_new_tokens = {};
  /// The same, counting the prompt. The caller may give one of the two; of a file's, max_new_tokens counts.
  std::optional<std::int64_t> max_length = {};

  /// Tokens that a sequence has at least, counting the prompt: no eos token is generated before. As in
  /// transformers, it may be more than a short prompt and its new tokens can be: none of these is an eos token then.
  std::optional<std::int64_t> min_length = {};  // 0
  /// The same, counting new tokens only. The caller may give one of the two, and no more new tokens than there is
  /// room for; of a file's, min_new_tokens counts.
  std::optional<std::int64_t> min_new_tokens = {};  // 0

  /// Draw tokens; false: always take the most probable one (greedy).
  std::optional<bool> do_sample = {};  // false
  // What stands from here to mirostat_eta needs do_sample (top_k that or penalty_alpha). The order in which all these work is
  // that of logits_processors.h; for definitions and ranges see filters.h. An option that belongs to another which is off is an
  // error.
  std::optional<double> temperature = {};        // 1
  std::optional<double> dynatemp_range = {};     // 0 = off: how far the entropy may move the temperature
  std::optional<double> dynatemp_exponent = {};  // 1
  std::optional<double> top_n_sigma = {};        // 0 = off
  std::optional<std::int64_t> top_k = {};        // 50
  std::optional<double> top_p = {};              // 1
  std::optional<double> min_p = {};              // 0
  std::optional<double> typical_p = {};          // 1
  std::optional<double> epsilon_cutoff = {};     // 0
  std::optional<double> eta_cutoff = {};         // 0
  std::optional<double> xtc_probability = {};    // 0 = off
  std::optional<double> xtc_threshold = {};      // 0.1
  /// 0 = off, or 2: Mirostat 2.0 instead of the filters from top_n_sigma to xtc, top_k's default included. The caller may not
  /// give one of them beside it; a file's do not count then.
  std::optional<std::int64_t> mirostat = {};  // 0
  std::optional<double> mirostat_tau = {};    // 5, in bits
  std::optional<double> mirostat_eta = {};    // 0.1

  /// Above 0, without do_sample: contrastive search (Su et al., "A contrastive framework for neural text generation", 2022,
  /// section 4). Of the top_k most probable tokens, takes the one with the largest (1 - penalty_alpha) p - penalty_alpha s, s
  /// the largest cosine between the final hidden states of that token and of one before it. Every new token is fed: prompt +
  /// max_new_tokens <= n_positions. From 0 to 1.
  std::optional<double> penalty_alpha = {};  // 0 = off
  /// How many sequences every prompt gets. More than one need do_sample, each then draws from a stream of random numbers of
  /// its own, or num_beams: they are the best of a search.
  std::optional<std::int64_t> num_return_sequences = {};  // 1
  // Speculation: each step feeds some guessed tokens more, and those are kept that would have been chosen. The result is the
  // same to the bit, also when sampling, since a draw depends on the scores and its position alone; good guesses bring it
  // sooner. Not with num_beams or guidance.
  /// Guess so many tokens that followed where the last max_matching_ngram_size tokens, or fewer, stood before.
  std::optional<std::int64_t> prompt_lookup_num_tokens = {};  // 0 = off
  std::optional<std::int64_t> max_matching_ngram_size = {};   // 2
  /// Guess by a smaller model of the same vocabulary, which must outlive the generation: num_assistant_tokens at most, ending
  /// with one that it gives a probability below the threshold.
  const Model* assistant_model = nullptr;
  std::optional<std::int64_t> num_assistant_tokens = {};      // 20
  std::optional<double> assistant_confidence_threshold = {};  // 0.4
  /// libgpt's: the adapter that the sequence has, in the place of the one attached to the model. Sequences with different ones
  /// share a batch, and each has the bits that it has alone. Not for the assistant_model, which has its own.
  std::shared_ptr<const nn::Adapter> adapter = nullptr;
  // Beam search, see Generator::generate; with do_sample the candidates are drawn. What belongs to it needs num_beams above 1.
  std::optional<std::int64_t> num_beams = {};  // 1 = off
  /// A hypothesis of n new tokens has the score sum / n^length_penalty.
  std::optional<double> length_penalty = {};         // 1
  std::optional<EarlyStopping> early_stopping = {};  // kFalse; true, false or "never" in a file
  /// Groups of num_beams / num_beam_groups beams, searched one after the other in each step, the later ones with the tokens
  /// that the earlier ones chose there made less likely by diversity_penalty, which groups need (diverse beam search). See
  /// HammingDiversity.
  std::optional<std::int64_t> num_beam_groups = {};  // 1
  std::optional<double> diversity_penalty = {};      // 0

  // These count for greedy too; they work before the filters. See penalties.h.
  std::optional<double> repetition_penalty = {};        // 1
  std::optional<double> frequency_penalty = {};         // 0
  std::optional<double> presence_penalty = {};          // 0
  std::optional<double> dry_multiplier = {};            // 0 = off
  std::optional<double> dry_base = {};                  // 1.75
  std::optional<std::int64_t> dry_allowed_length = {};  // 2
  std::optional<std::int64_t> dry_penalty_last_n = {};  // -1
  /// Texts that end a repetition. A token that holds one, or begins with its end behind tokens that hold the rest, is a
  /// breaker. Of a text the first 40 bytes count, as in llama.cpp. None for a model without a tokenizer.
  std::optional<std::vector<std::string>> dry_sequence_breakers = {};  // "\n", ":", "\"", "*"
  std::optional<std::vector<BiasedSequence>> sequence_bias = {};       // none
  std::optional<std::map<TokenId, double>> logit_bias = {};  // none; sequence_bias for single tokens
  std::optional<ExponentialDecay> exponential_decay_length_penalty = {};  // none; needs an eos_token_id

  // What may not come, or must. See constraints.h.
  std::optional<std::int64_t> no_repeat_ngram_size = {};                // 0
  std::optional<std::vector<std::vector<TokenId>>> bad_words_ids = {};  // none
  std::optional<std::vector<TokenId>> suppress_tokens = {};             // none
  std::optional<std::vector<TokenId>> begin_suppress_tokens = {};       // none
  std::optional<TokenId> forced_bos_token_id = {};                      // none
  std::optional<std::vector<TokenId>> forced_eos_token_id = {};         // none
  PrefixAllowedTokensFn prefix_allowed_tokens_fn = {};
  /// A processor of the caller's own; works after all these and before the filters.
  FunctionProcessor::Function logits_processor = {};
  /// The new tokens' text is one of this grammar, and ends with it, whatever max_new_tokens is: only tokens come behind which it
  /// can still be completed in time, an eos token where it is complete, and nothing else where it can only end. Works after all
  /// these and before the filters, with every strategy. Needs a tokenizer, the one it was compiled for, an eos_token_id without
  /// text, and room for CompiledGrammar::least_tokens. Not with stop_strings, min_length, min_new_tokens and
  /// the seven options before logits_processor: they could leave nothing that the grammar admits. Where a logits_processor leaves
  /// nothing, the generation throws ArgumentError. See grammar.h.
  std::shared_ptr<const CompiledGrammar> grammar = {};
  /// Turns the scores into log-probabilities after all processors.
  std::optional<bool> renormalize_logits = {};  // false

  /// Above 1, follows the prompt more and the negative prompt less. A second sequence, the negative prompt with the same new
  /// tokens, is computed for it. See ClassifierFreeGuidance.
  std::optional<double> guidance_scale = {};  // 1 = off
  /// Must fit the context with the new tokens as the prompt must.
  std::optional<std::vector<TokenId>> negative_prompt_ids = {};  // the prompt's last token

  /// Lets prompt and new tokens be more than the context holds. Of t tokens, the network then sees the first n_keep and the last
  /// ones: where t > n_positions, those between are left out, as many times h = max(1, (n_positions - n_keep) / 2) as it takes
  /// for the rest to fit. So each time the context is full, the older half of what is not kept is dropped at once, and what
  /// stands behind n_keep is computed again: GPT-2's positions are absolute, and a cache cannot be moved. The tokens that are seen
  /// have the positions 0, 1, ...; processors see all tokens, and a draw depends on t as ever. Not with num_beams,
  /// penalty_alpha or guidance. (llama.cpp's context shift with its n_keep, but computed again.)
  std::optional<bool> sliding_window = {};  // false
  /// Tokens of the prompt that stay, fewer than n_positions; of a shorter prompt all; -1: all.
  std::optional<std::int64_t> n_keep = {};  // 0

  /// Of the random numbers. Equal seeds give equal tokens; a greedy generation uses none.
  std::uint64_t seed = 0;
  /// The stream of random numbers of that seed. Of num_return_sequences, number r draws from stream + r, and is to the bit what
  /// a generation of one sequence with that stream gives.
  std::uint64_t stream = 0;

  /// Tokens that end a sequence; they are part of the result. Empty: none. Default: config.json's.
  std::optional<std::vector<TokenId>> eos_token_id = {};
  /// Texts that end a sequence when one occurs with its last character inside the newest token. The result
  /// includes it, and the rest of that token.
  std::optional<std::vector<std::string>> stop_strings = {};  // none

  /// Report each token's log-probability, and those of this many most probable tokens (0 or more).
  std::optional<int> logprobs = {};
  /// Called with every token as soon as it is known, in the default floating-point environment. What it throws ends the
  /// generation and reaches the caller.
  std::function<void(const Piece& piece)> on_token = {};
  /// Ends the generation before the next matrix product, also during the prompt's prefill; the tokens so far are the
  /// result.
  std::stop_token stop = {};
  /// Threads that this generation may use at most; 0: as many as gpt::num_threads() says.
  int num_threads = 0;
  /// What the attention cache holds keys and values as: f32, f16, bf16 or i8. Narrower is smaller and faster at long contexts;
  /// it rounds them, and so changes the result a little. See nn/kv_cache.h.
  DType kv_cache_dtype = DType::f32;

  /// The settings of a generation_config.json, or of an object that has its keys; options of OpenAI's API and of llama.cpp
  /// stand there under the names they have here. sequence_bias is [[[id, ...], bias], ...], logit_bias {"id": bias, ...}.
  /// Other keys do not count. Throws FormatError naming the file, the key and what was expected.
  static GenerateOptions from_config(const HfConfig& config);

  /// Checks what can be judged without a checkpoint. Throws ArgumentError naming the option; UnsupportedError naming two that
  /// do not go together.
  void validate() const;
};

/// Why a sequence ended.
enum class FinishReason : std::uint8_t {
  kLength,      // max_new_tokens or max_length
  kEos,         // an eos_token_id
  kStopString,  // one of stop_strings
  kCancelled,   // the caller's stop_token
};

/// "length", "eos", "stop", "cancelled"
std::string_view name_of(FinishReason reason) noexcept;

/// Wall-clock time of the steps that computed a sequence, on_token left out. In a batch the steps are shared. In a Scheduler,
/// what is computed again after a preemption counts again: as prompt where no token had been chosen, else as decode_s alone;
/// tokens of a prefix that another request left computed do not count.
struct GenerateTiming {
  std::int64_t prefill_tokens = 0;  // of the prompt that were computed: all, unless cancelled
  double prefill_s = 0.0;           // for them, and the choice of the first new token
  std::int64_t decode_tokens = 0;   // new tokens after the first
  double decode_s = 0.0;            // for these
};

struct GenerateResult {
  std::vector<TokenId> prompt_ids;
  std::vector<TokenId> ids;  // the new ones, an eos token included
  /// The new tokens' text, special tokens left out, invalid UTF-8 replaced by U+FFFD: their bytes joined or, where the tokenizer
  /// has a Detokenizer, what it says of them behind the prompt. Prompt and new tokens decoded together are the two texts joined.
  /// Empty when the model has no tokenizer.
  std::string text;
  FinishReason finish_reason = FinishReason::kLength;
  /// Of beam search: the sum of the tokens' log-probabilities after the processors, over their number to the power of
  /// length_penalty.
  std::optional<double> score = {};
  std::vector<double> logprobs;                         // of ids, when asked for
  std::vector<std::vector<TokenLogProb>> top_logprobs;  // beside them
  GenerateTiming timing;
};

}  // namespace gpt
