// Text from a model.
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"
#include "gpt/models/model.h"

namespace gpt {

namespace generate {
struct CheckpointDefaults;
class Session;
}  // namespace generate

/// A generation in progress, as an input range of pieces: each step of the iteration computes one token.
///   for (const gpt::Piece& piece : generator.stream("Once upon a time")) std::cout << piece.text;
/// Uses the generator's model, which must outlive it.
class Stream {
 public:
  class Iterator {
   public:
    using value_type = Piece;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    const Piece& operator*() const noexcept { return *stream_->next_; }
    const Piece* operator->() const noexcept { return stream_->next_; }
    Iterator& operator++() {
      stream_->advance();
      return *this;
    }
    void operator++(int) { stream_->advance(); }
    bool operator==(std::default_sentinel_t) const noexcept { return stream_->next_ == nullptr; }

   private:
    friend class Stream;
    explicit Iterator(Stream& stream) noexcept : stream_(&stream) {}
    Stream* stream_;
  };

  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  /// Computes the first token (the prompt's prefill) when nothing was computed yet. Throws as
  /// Generator::generate; so does the iterator's ++.
  Iterator begin();
  std::default_sentinel_t end() const noexcept { return {}; }

  /// What has been generated so far, with prompt_lookup_num_tokens also what the iteration comes to next; complete when the
  /// iteration has reached its end.
  const GenerateResult& result() const noexcept;

 private:
  friend class Generator;
  explicit Stream(std::unique_ptr<generate::Session> session) noexcept;
  void advance();

  std::unique_ptr<generate::Session> session_;
  std::span<const Piece> ahead_;  // of the last step, from next_ on
  const Piece* next_ = nullptr;
  bool started_ = false;
};

/// Generates with one model. Const and shareable between threads; the model must outlive it.
class Generator {
 public:
  using WarningCallback = std::function<void(std::string_view message)>;

  /// Reads the defaults of the model's generation_config.json. Calls on_warning (when set) for every key that libgpt does not
  /// know, and for an eos_token_id outside the vocabulary. Throws FormatError (a key of the wrong type, or a value outside its
  /// range), UnsupportedError naming a key that would change the result in a way libgpt does not compute.
  explicit Generator(const Model& model, const WarningCallback& on_warning = {});
  explicit Generator(Model&&, const WarningCallback& = {}) = delete;

  /// Continues the prompt: its only result, or the best of num_beams. A text becomes tokens by Tokenizer::encode_prompt. The result depends on the model, the prompt
  /// and the options, to the last bit; not on threads, the instruction set or a batch. Throws, before anything is computed: what check() throws,
  /// ArgumentError (an empty prompt, a token id outside the vocabulary, a prompt or a length that the context
  /// cannot hold), UnsupportedError (a text prompt for a model without a tokenizer). While computing:
  /// NumericError when the logits are not finite, naming the position and, if there is one, the first
  /// parameter that is not finite, or when the options leave no token; MemoryError; what options.on_token and
  /// the other functions of the options throw.
  GenerateResult generate(std::string_view prompt, const GenerateOptions& options = {}) const;
  GenerateResult generate(std::span<const TokenId> prompt, const GenerateOptions& options = {}) const;

  /// Several prompts in one ragged batch; sequences leave it when they end. Each has n = num_return_sequences results, the
  /// first prompt's before the second's. Result i n + r is, timing apart, that of generate(prompts[i], options) with
  /// num_return_sequences = 1 and the stream options.stream + r; with num_beams it is the search's r-th best.
  ///
  /// Beam search is that of transformers (BeamSearchScorer). A beam's sum is that of its tokens' log-probabilities: log softmax
  /// of the logits, after the processors. In a step, the candidates are the max(2, 1 + eos tokens) num_beams best continuations
  /// of all beams by any token, of equal ones the lower beam and token; with do_sample they are drawn without replacement from
  /// the softmax of the sums, and filters keep max(2, 1 + eos tokens) tokens at least. Candidates that end in an eos token are
  /// finished if they are among the num_beams best; the num_beams best of the others go on. The num_beams finished ones with
  /// the best scores are kept, and early_stopping says when that is all. Each group of beams is a search of its own, and what
  /// they finish is put together in the end. Beams to which the processors leave no token end without a result; where there are
  /// fewer than asked for, or the caller stops, the results behind them have no tokens; fewer texts of a grammar than
  /// asked for are an ArgumentError. The prompts are searched one after the other. Log-probabilities are computed
  /// afterwards, in a pass of their own. NumericError when no beam ends with a result.
  std::vector<GenerateResult> generate(std::span<const std::vector<TokenId>> prompts,
                                       const GenerateOptions& options = {}) const;

  /// The same as for one prompt, token by token. Prompt and options are checked at once, and nothing is computed before
  /// begin(). Throws UnsupportedError with num_beams and penalty_alpha.
  Stream stream(std::string_view prompt, const GenerateOptions& options = {}) const;
  Stream stream(std::span<const TokenId> prompt, const GenerateOptions& options = {}) const;

  /// Whether stream() takes these options: one sequence, and neither beams nor penalty_alpha. Throws as check().
  bool streams(const GenerateOptions& options) const;

  /// Checks options against this model without a prompt. Throws ArgumentError (as GenerateOptions::validate;
  /// a sampling option without do_sample; an option that belongs to another which is off, or a filter beside
  /// mirostat; a token id or a number of logprobs beyond the vocabulary; exponential_decay_length_penalty without
  /// an eos_token_id; num_return_sequences where there is but one sequence, or above num_beams), UnsupportedError (an
  /// option that does not go with num_beams; stop_strings or dry_sequence_breakers for a model without a tokenizer; a
  /// key of generation_config.json that changes how tokens are drawn and is not supported, when do_sample is on).
  void check(const GenerateOptions& options) const;

 private:
  std::vector<TokenId> encode(std::string_view prompt) const;

  const Model* model_;
  std::shared_ptr<const generate::CheckpointDefaults> defaults_;
};

}  // namespace gpt
