// A conversation with a model: what was said, as text and as the token ids that the model saw and chose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/generate/generate_options.h>
#include <gpt/text/chat_template.h>
#include <gpt/text/tokenizer.h>

namespace program {

/// What a user said, and the reply.
struct Exchange {
  std::string message;
  std::string reply;                    // the text of reply_ids, without what the form puts around it
  std::vector<gpt::TokenId> reply_ids;  // as they were chosen, with the end of a reply of the form
};

/// The history is kept as token ids: replies stay the ids that they were chosen as, whatever the tokenizer makes of their text;
/// all else is encoded as JsonlDataset encodes {"messages"}, so that a model is talked to in the form in which it was tuned.
class Conversation {
 public:
  Conversation(const gpt::ChatTemplate& form, std::shared_ptr<const gpt::Tokenizer> tokenizer)
      : form_(form), tokenizer_(std::move(tokenizer)) {}

  const gpt::ChatTemplate& form() const noexcept { return form_; }
  const gpt::Tokenizer& tokenizer() const noexcept { return *tokenizer_; }
  const std::shared_ptr<const gpt::Tokenizer>& shared_tokenizer() const noexcept { return tokenizer_; }

  std::optional<std::string> system = {};
  std::vector<Exchange> exchanges = {};  // the oldest first

  /// The ids of the exchanges from number `first` on and of a new message, up to where the reply to it begins.
  std::vector<gpt::TokenId> prompt(std::string_view message, std::size_t first = 0) const;

  /// What was generated behind a prompt, as an exchange: without the stop string or eos token that ended it, and with the end of a
  /// reply of the form, where it does not have it. Where a stop string begins inside a token, the token's bytes before
  /// it are encoded anew.
  Exchange exchange(std::string message, std::span<const gpt::TokenId> prompt,
                    const gpt::GenerateResult& result, std::span<const std::string> stop_strings) const;

  /// An exchange whose reply is given as text, which is encoded as JsonlDataset does it.
  Exchange exchange(std::string message, std::span<const gpt::TokenId> prompt, std::string_view reply) const;

  /// The text of a reply's ids behind a prompt, without what the form puts around it.
  std::string reply_text(std::span<const gpt::TokenId> prompt, std::span<const gpt::TokenId> ids) const;

 private:
  bool has_eos() const { return tokenizer_->eos_token_id().has_value(); }

  gpt::ChatTemplate form_;
  std::shared_ptr<const gpt::Tokenizer> tokenizer_;
};

/// Bytes of the last tokens, at least `count` of them unless there are fewer.
std::string last_bytes(const gpt::Tokenizer& tokenizer, std::span<const gpt::TokenId> ids, std::size_t count);

/// Tokenizer::fingerprint in hexadecimal digits.
std::string fingerprint_text(const gpt::Tokenizer& tokenizer);

/// A conversation in a file, one line of JSON in the form that gpt-finetune learns from, with what it takes to go on where it
/// was: {"messages": [{"role", "content"}, ...], "chat_template", "tokenizer", "reply_ids": [[id, ...], ...], "replies"}.
/// `replies` counts those that were made, each from its own stream of random numbers.
std::string conversation_line(const Conversation& conversation, std::uint64_t replies);

struct LoadedConversation {
  Conversation conversation;
  std::uint64_t replies;
};

/// Reads a file written from conversation_line, for a model of that tokenizer, or {"messages"} alone, whose replies are then encoded.
/// `conversation` gives the form and the tokenizer, vocab_size is the network's. Throws IoError; FormatError naming the file and what is wrong in it;
/// ArgumentError where the form or the tokenizer is another one.
LoadedConversation load_conversation(const std::string& path, const Conversation& conversation,
                                     std::int64_t vocab_size);

}  // namespace program
