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

  /// What has been generated so far; complete when the iteration has reached its end.
  const GenerateResult& result() const noexcept;

 private:
  friend class Generator;
  explicit Stream(std::unique_ptr<generate::Session> session) noexcept;
  void advance();

  std::unique_ptr<generate::Session> session_;
  const Piece* next_ = nullptr;
  bool started_ = false;
};

/// Generates with one model. Const and shareable between threads; the model must outlive it.
class Generator {
 public:
  using WarningCallback = std::function<void(std::string_view message)>;

  /// Reads the defaults of the model's generation_config.json. Calls on_warning (when set) for every key that
  /// libgpt does not know, and for an eos_token_id outside the vocabulary. Throws FormatError (a key of the wrong type, or a value outside its range),
  /// UnsupportedError naming a key that would change the result in a way libgpt does not compute.
  explicit Generator(const Model& model, const WarningCallback& on_warning = {});
  explicit Generator(Model&&, const WarningCallback& = {}) = delete;

  /// Continues the prompt. The result depends on the model, the prompt and the options, to the last bit; not
  /// on threads, the instruction set or a batch. Throws, before anything is computed: what check() throws,
  /// ArgumentError (an empty prompt, a token id outside the vocabulary, a prompt or a length that the context
  /// cannot hold), UnsupportedError (a text prompt for a model without a tokenizer). While computing:
  /// NumericError when the logits are not finite, naming the position and, if there is one, the first
  /// parameter that is not finite, or when the options leave no token; MemoryError; what options.on_token and
  /// the other functions of the options throw.
  GenerateResult generate(std::string_view prompt, const GenerateOptions& options = {}) const;
  GenerateResult generate(std::span<const TokenId> prompt, const GenerateOptions& options = {}) const;

  /// Several prompts in one ragged batch; sequences leave it when they end. Result i is, timing apart, that
  /// of generate(prompts[i], options): every sequence has the random numbers of the same seed and stream.
  std::vector<GenerateResult> generate(std::span<const std::vector<TokenId>> prompts,
                                       const GenerateOptions& options = {}) const;

  /// The same, token by token. Prompt and options are checked at once, and nothing is computed before
  /// begin().
  Stream stream(std::string_view prompt, const GenerateOptions& options = {}) const;
  Stream stream(std::span<const TokenId> prompt, const GenerateOptions& options = {}) const;

  /// Checks options against this model without a prompt. Throws ArgumentError (as GenerateOptions::validate;
  /// a sampling option without do_sample; an option that belongs to another which is off, or a filter beside
  /// mirostat; a token id or a number of logprobs beyond the vocabulary; exponential_decay_length_penalty without
  /// an eos_token_id), UnsupportedError (stop_strings or dry_sequence_breakers for a model without a tokenizer; a
  /// key of generation_config.json that changes how tokens are drawn and is not supported, when do_sample is on).
  void check(const GenerateOptions& options) const;

 private:
  std::vector<TokenId> encode(std::string_view prompt) const;
  std::unique_ptr<generate::Session> start(std::vector<std::vector<TokenId>> prompts,
                                           const GenerateOptions& options) const;

  const Model* model_;
  std::shared_ptr<const generate::CheckpointDefaults> defaults_;
};

}  // namespace gpt
