// Conversations as text and as token ids, in the plain forms that models are tuned on.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

/// A stretch of a conversation's text.
struct ChatPart {
  std::string text;
  bool learned = false;  // the assistant says it: a model is trained on it
  bool eos = false;      // the eos token follows, and is learned as the text is
};

/// Appends the ids of a stretch to those of the stretches before it: encoded for itself, the first (`ids` is empty) as
/// Tokenizer::encode_prompt does it, then the eos token, unless the tokenizer has none or it is there already. This is how
/// JsonlDataset makes ids of {"messages"}. Throws as Tokenizer::encode; `ids` is then as before.
void append_ids(std::vector<TokenId>& ids, const ChatPart& part, const Tokenizer& tokenizer,
                bool parse_special_tokens = true);

/// A form of conversations, one of the built-in ones (the Jinja program in a checkpoint's chat_template is not run):
///   zephyr  <|user|>\n content <eos>\n <|assistant|>\n content <eos>\n                       (HuggingFaceH4/zephyr-7b)
///   chatml  <|im_start|>user\n content <|im_end|>\n <|im_start|>assistant\n content <|im_end|>\n        (OpenAI)
///   alpaca  ### Instruction:\n content \n\n### Response:\n content <eos>\n\n, after the preamble of Stanford's Alpaca,
///           in whose place a system message may stand
///   llama2  [INST] content [/INST] content <eos>, with <<SYS>>\n system \n<</SYS>>\n\n inside the first [INST]; without
///           the bos token                                                                    (meta-llama/Llama-2-7b-chat)
///   plain   user: content\nassistant: content <eos>\n
/// without the blanks around content, <eos> and \n in zephyr, chatml and alpaca. A system message stands as a user's does where
/// nothing else is said. <eos> is the tokenizer's eos token; without one it is left out, and what follows a reply belongs
/// to it.
class ChatTemplate {
 public:
  /// zephyr.
  ChatTemplate() noexcept;
  /// Throws ArgumentError naming the known ones.
  static ChatTemplate by_name(std::string_view name);
  static std::vector<std::string_view> names();

  std::string_view name() const noexcept;

  /// What is wrong with a conversation: another role, and in alpaca and llama2 a system message that is not the first, or users
  /// and assistant who do not take turns. The others take any order.
  std::optional<std::string> problem(std::span<const ChatMessage> messages) const;

  /// The text in stretches as long as they can be. Throws ArgumentError with problem().
  std::vector<ChatPart> parts(std::span<const ChatMessage> messages, bool has_eos) const;

  /// The text. With add_generation_prompt it ends where the assistant's next reply begins; a reply may begin with a space, which
  /// belongs to the form. Throws as parts.
  std::string prompt(std::span<const ChatMessage> messages, const std::optional<std::string>& eos_token = {},
                     bool add_generation_prompt = true) const;

  /// What stands before a reply's content in its stretch, and behind it. A reply that ends without its eos token, or in the middle,
  /// becomes one of the form by what it lacks of these.
  std::string_view reply_begin() const noexcept;
  ChatPart reply_end(bool has_eos) const;

  /// The text that ends a reply where no eos token does: a stop string for generation.
  std::string_view stop_string() const noexcept;

 private:
  struct Form;
  static std::span<const Form> forms() noexcept;
  explicit ChatTemplate(const Form& form) noexcept : form_(&form) {}

  const Form* form_;
};

}  // namespace gpt
