#include "train/jsonl_line.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "gpt/core/error.h"
#include "text/json_object.h"

namespace gpt {
namespace {

class SampleBuilder {
 public:
  SampleBuilder(const Tokenizer& tokenizer, bool parse_special_tokens)
      : tokenizer_(tokenizer), eos_(tokenizer.eos_token_id()), parse_special_tokens_(parse_special_tokens) {
    const auto prefix = tokenizer.encode("", {.add_suffix_tokens = false});
    suffix_ = tokenizer.encode("");
    suffix_.erase(suffix_.begin(), suffix_.begin() + std::ssize(prefix));
  }

  bool has_eos() const noexcept { return eos_.has_value(); }

  void add(const ChatPart& part) {
    append_ids(sample_.ids, part, tokenizer_, parse_special_tokens_);
    sample_.learned.resize(sample_.ids.size(), part.learned);
  }

  /// The sample up to the last id that is learned, and the end of the template where no eos is.
  MaskedIds take() {
    while (!sample_.learned.empty() && !sample_.learned.back()) {
      sample_.ids.pop_back();
      sample_.learned.pop_back();
    }
    if (!sample_.ids.empty() && sample_.ids.back() != eos_ && !ends_with_suffix()) {
      sample_.ids.insert(sample_.ids.end(), suffix_.begin(), suffix_.end());
      sample_.learned.resize(sample_.ids.size(), true);
    }
    return std::move(sample_);
  }

 private:
  bool ends_with_suffix() const {
    const auto& ids = sample_.ids;
    return ids.size() >= suffix_.size() && std::equal(suffix_.rbegin(), suffix_.rend(), ids.rbegin());
  }

  const Tokenizer& tokenizer_;
  std::optional<TokenId> eos_;
  std::vector<TokenId> suffix_;  // behind a whole text, by the tokenizer's template
  bool parse_special_tokens_;
  MaskedIds sample_;
};

std::string required_text(const JsonObject& object, std::string_view key) {
  std::string text = object.required_string(key);
  if (text.empty()) fail<FormatError>(object.source(), object.path_of(key), " is empty, expected text");
  return text;
}

void add_messages(const JsonObject& line, const ChatTemplate& chat_template, SampleBuilder& sample) {
  std::vector<ChatMessage> messages;
  bool answered = false;
  for (const json::Value& value : *line.array("messages")) {
    const JsonObject message(value, line.source(), concat("messages[", messages.size(), "]"));
    std::string role = message.required_string("role");
    const bool learned = role == "assistant";
    std::string content = learned ? required_text(message, "content") : message.required_string("content");
    messages.push_back({std::move(role), std::move(content)});
    answered = answered || learned;
  }
  if (const auto problem = chat_template.problem(messages)) fail<FormatError>(line.source(), *problem);
  if (!answered)
    fail<FormatError>(line.source(), "messages has none of the assistant, expected one to learn from");
  // Each stretch is a text of its own, as a prompt and the reply to it are.
  for (const ChatPart& part : chat_template.parts(messages, sample.has_eos())) sample.add(part);
}

void add_line(const JsonObject& line, const ChatTemplate& chat_template, SampleBuilder& sample) {
  const bool completion = line.find("prompt") != nullptr || line.find("completion") != nullptr;
  const bool messages = line.find("messages") != nullptr, text = line.find("text") != nullptr;
  constexpr std::string_view kFormats = "\"prompt\" and \"completion\", \"messages\" or \"text\"";
  if (completion + messages + text != 1)
    fail<FormatError>(line.source(), completion + messages + text == 0 ? "has none" : "has more than one",
                      " of the formats ", kFormats);
  if (messages) return add_messages(line, chat_template, sample);
  if (completion) sample.add({.text = line.required_string("prompt")});
  sample.add({.text = required_text(line, completion ? "completion" : "text"), .learned = true, .eos = true});
}

MaskedIds checked(MaskedIds sample, std::string_view where) {
  if (!has_something_to_learn(sample))
    fail<FormatError>(where, "has ", sample.ids.size(),
                      " ids, of which none after the first is to be learned");
  return sample;
}

}  // namespace

bool has_something_to_learn(const MaskedIds& sample) {
  const auto& learned = sample.learned;
  return !learned.empty() && std::find(learned.begin() + 1, learned.end(), true) != learned.end();
}

MaskedIds read_jsonl_line(std::string_view line, std::string_view where, const Tokenizer& tokenizer,
                          bool parse_special_tokens, const ChatTemplate& chat_template) {
  const json::Value::Object object = json::parse_object(line, where);
  SampleBuilder builder(tokenizer, parse_special_tokens);
  try {
    add_line(JsonObject(object, where), chat_template, builder);
  } catch (const ArgumentError& error) {
    fail<FormatError>(where, "cannot be encoded: ", error.what());
  }
  return checked(builder.take(), where);
}

PreferenceIds read_preference_line(std::string_view line, std::string_view where, const Tokenizer& tokenizer,
                                   bool parse_special_tokens) {
  const json::Value::Object object = json::parse_object(line, where);
  const JsonObject pair(object, where);
  const auto answer = [&](std::string_view key) {
    SampleBuilder builder(tokenizer, parse_special_tokens);
    try {
      builder.add({.text = pair.required_string("prompt")});
      builder.add({.text = required_text(pair, key), .learned = true, .eos = true});
    } catch (const ArgumentError& error) {
      fail<FormatError>(where, "cannot be encoded: ", error.what());
    }
    return checked(builder.take(), where);
  };
  return {answer("chosen"), answer("rejected")};
}

}  // namespace gpt
