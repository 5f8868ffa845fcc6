#include "gpt/text/chat_template.h"

#include <algorithm>

#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

enum class Eos { kNever, kAfterReplies, kAlways };

struct Turn {
  std::string_view before, after;
};

// Appends to the last stretch where it is of the same kind.
void append(std::vector<ChatPart>& parts, std::string_view text, bool learned) {
  if (text.empty()) return;
  if (parts.empty() || parts.back().eos || parts.back().learned != learned)
    parts.push_back({.text = {}, .learned = learned});
  parts.back().text += text;
}

// Ends the last stretch by an eos token; one without text where it is of another kind.
void append_eos(std::vector<ChatPart>& parts, bool learned) {
  if (parts.empty() || parts.back().eos || parts.back().learned != learned)
    parts.push_back({.text = {}, .learned = learned});
  parts.back().eos = true;
}

}  // namespace

void append_ids(std::vector<TokenId>& ids, const ChatPart& part, const Tokenizer& tokenizer,
                bool parse_special_tokens) {
  with_memory_errors("chat", [&] {
    std::vector<TokenId> added =
        ids.empty() ? tokenizer.encode_prompt(part.text, parse_special_tokens)
                    : tokenizer.encode(part.text, {.parse_special_tokens = parse_special_tokens,
                                                   .add_special_tokens = false});
    const TokenId* const last = !added.empty() ? &added.back() : !ids.empty() ? &ids.back() : nullptr;
    if (const auto eos = tokenizer.eos_token_id(); part.eos && eos && (last == nullptr || *last != *eos))
      added.push_back(*eos);
    ids.insert(ids.end(), added.begin(), added.end());
  });
}

struct ChatTemplate::Form {
  std::string_view name, stop;
  Turn system, user, assistant;
  std::string_view first_user;              // before a user's message that follows the system's
  std::string_view reply_begin, reply_end;  // of what the assistant says, with its content
  std::string_view preamble;                // without a system message
  Eos eos;
  bool takes_turns;
};

std::span<const ChatTemplate::Form> ChatTemplate::forms() noexcept {
  static constexpr Form kForms[] = {
      {.name = "zephyr",
       .stop = "\n<|user|>",
       .system = {"<|system|>\n", "\n"},
       .user = {"<|user|>\n", "\n"},
       .assistant = {"<|assistant|>\n", "\n"},
       .first_user = "<|user|>\n",
       .reply_begin = "",
       .reply_end = "",
       .preamble = "",
       .eos = Eos::kAlways,
       .takes_turns = false},
      {.name = "chatml",
       .stop = "<|im_end|>",
       .system = {"<|im_start|>system\n", "<|im_end|>\n"},
       .user = {"<|im_start|>user\n", "<|im_end|>\n"},
       .assistant = {"<|im_start|>assistant\n", "\n"},
       .first_user = "<|im_start|>user\n",
       .reply_begin = "",
       .reply_end = "<|im_end|>",
       .preamble = "",
       .eos = Eos::kNever,
       .takes_turns = false},
      {.name = "alpaca",
       .stop = "\n\n### Instruction:",
       .system = {"", "\n\n"},
       .user = {"### Instruction:\n", "\n\n"},
       .assistant = {"### Response:\n", "\n\n"},
       .first_user = "### Instruction:\n",
       .reply_begin = "",
       .reply_end = "",
       .preamble = "Below is an instruction that describes a task. Write a "
                   "response that appropriately completes "
                   "the request.\n\n",
       .eos = Eos::kAfterReplies,
       .takes_turns = true},
      {.name = "llama2",
       .stop = "[INST]",
       .system = {"[INST] <<SYS>>\n", "\n<</SYS>>\n\n"},
       .user = {"[INST] ", " [/INST]"},
       .assistant = {"", ""},
       .first_user = "",
       .reply_begin = " ",
       .reply_end = " ",
       .preamble = "",
       .eos = Eos::kAfterReplies,
       .takes_turns = true},
      {.name = "plain",
       .stop = "\nuser:",
       .system = {"system: ", "\n"},
       .user = {"user: ", "\n"},
       .assistant = {"assistant:", "\n"},
       .first_user = "user: ",
       .reply_begin = " ",
       .reply_end = "",
       .preamble = "",
       .eos = Eos::kAfterReplies,
       .takes_turns = false},
  };
  return kForms;
}

ChatTemplate::ChatTemplate() noexcept : form_(&forms().front()) {}

ChatTemplate ChatTemplate::by_name(std::string_view name) try {
  for (const Form& form : forms())
    if (form.name == name) return ChatTemplate(form);
  std::string known;
  for (const Form& form : forms()) known += concat(known.empty() ? "" : ", ", form.name);
  fail<ArgumentError>("chat", "chat_template is ", quote(name), ", expected one of ", known);
} catch (...) {
  rethrow_with_memory_errors("chat");
}

std::vector<std::string_view> ChatTemplate::names() try {
  std::vector<std::string_view> names;
  for (const Form& form : forms()) names.push_back(form.name);
  return names;
} catch (...) {
  rethrow_with_memory_errors("chat");
}

std::string_view ChatTemplate::name() const noexcept { return form_->name; }
std::string_view ChatTemplate::reply_begin() const noexcept { return form_->reply_begin; }
std::string_view ChatTemplate::stop_string() const noexcept { return form_->stop; }

ChatPart ChatTemplate::reply_end(bool has_eos) const {
  return with_memory_errors("chat", [&] {
    const bool ends = form_->eos != Eos::kNever;
    const std::string_view after = ends && !has_eos ? form_->assistant.after : std::string_view();
    return ChatPart{.text = concat(form_->reply_end, after), .learned = true, .eos = ends && has_eos};
  });
}

std::optional<std::string> ChatTemplate::problem(std::span<const ChatMessage> messages) const try {
  const std::size_t first = !messages.empty() && messages[0].role == "system" ? 1 : 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant")
      return concat("messages[", i, "].role is ", quote(role),
                    ", expected \"system\", \"user\" or \"assistant\"");
    if (!form_->takes_turns || i < first) continue;
    const std::string_view expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (role != expected)
      return concat("messages[", i, "].role is ", quote(role), ", expected \"", expected,
                    "\": users and assistant take turns in ", form_->name);
  }
  return std::nullopt;
} catch (...) {
  rethrow_with_memory_errors("chat");
}

std::vector<ChatPart> ChatTemplate::parts(std::span<const ChatMessage> messages, bool has_eos) const try {
  if (const auto wrong = problem(messages)) fail<ArgumentError>("chat", *wrong);
  std::vector<ChatPart> parts;
  bool after_system = false;
  if (!messages.empty() && messages[0].role != "system") append(parts, form_->preamble, false);
  for (const ChatMessage& message : messages) {
    const bool is_reply = message.role == "assistant", is_system = message.role == "system";
    const Turn& turn = is_reply ? form_->assistant : is_system ? form_->system : form_->user;
    append(parts, !is_reply && !is_system && after_system ? form_->first_user : turn.before, false);
    if (is_reply) append(parts, form_->reply_begin, true);
    append(parts, message.content, is_reply);
    if (is_reply) append(parts, form_->reply_end, true);
    const bool ends = form_->eos == Eos::kAlways || (form_->eos == Eos::kAfterReplies && is_reply);
    if (ends && has_eos) append_eos(parts, is_reply);
    // Without an eos token the end of a reply is learned by what follows it.
    append(parts, turn.after, is_reply && ends && !has_eos);
    after_system = is_system;
  }
  return parts;
} catch (...) {
  rethrow_with_memory_errors("chat");
}

std::string ChatTemplate::prompt(std::span<const ChatMessage> messages,
                                 const std::optional<std::string>& eos_token,
                                 bool add_generation_prompt) const {
  return with_memory_errors("chat", [&] {
    std::string text;
    for (const ChatPart& part : parts(messages, eos_token.has_value())) {
      text += part.text;
      if (part.eos) text += *eos_token;
    }
    if (add_generation_prompt) text += form_->assistant.before;
    return text;
  });
}

}  // namespace gpt
