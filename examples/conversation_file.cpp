#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/core/error.h>

#include "conversation.h"
#include "program.h"

namespace program {
namespace {

using ConversationJson = nlohmann::ordered_json;

/// A file, read step by step with errors that name it.
class ConversationReader {
 public:
  ConversationReader(const std::string& path, const Conversation& present, std::int64_t vocab_size)
      : path_(path), vocab_size_(vocab_size), conversation_(present.form(), present.shared_tokenizer()) {}

  LoadedConversation read() {
    try {
      file_ = ConversationJson::parse(read_all(path_));
    } catch (const ConversationJson::exception& error) {
      const std::string_view what = error.what();  // "[json.exception.parse_error.101] parse error at ..."
      fail("is not valid JSON: ", what.substr(std::min(what.size(), what.find("] ") + 2)));
    }
    if (!file_.is_object()) fail("is or holds no JSON object, expected one with messages");
    check_form();
    read_messages();
    const ConversationJson* const replies = find("replies");
    if (replies != nullptr && !replies->is_number_unsigned()) fail("replies: expected an integer from 0");
    const std::uint64_t count = conversation_.exchanges.size();
    return {std::move(conversation_), replies != nullptr ? replies->get<std::uint64_t>() : count};
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    gpt::fail<gpt::FormatError>(input_name(path_), parts...);
  }

  const ConversationJson* find(const char* key) const {
    const auto found = file_.find(key);
    return found == file_.end() ? nullptr : &*found;
  }

  /// Token ids mean something in their form and for their tokenizer alone.
  void check_form() const {
    const auto check = [this](const char* key, std::string_view expected, std::string_view what) {
      const ConversationJson* const value = find(key);
      if (value == nullptr) {
        if (find("reply_ids") != nullptr) fail("has reply_ids but no ", key);
        return;
      }
      if (!value->is_string()) fail(key, ": expected a string");
      if (const auto& text = value->get_ref<const std::string&>(); text != expected)
        gpt::fail<gpt::ArgumentError>(input_name(path_), key, " is ", in_quotes(text), ", expected ",
                                      in_quotes(expected), what);
    };
    check("chat_template", conversation_.form().name(), ": see --chat-template");
    check("tokenizer", fingerprint_text(conversation_.tokenizer()),
          ", the fingerprint of this model's: the ids would be other text");
  }

  std::string content(const ConversationJson& message, std::size_t i, std::string_view role) const {
    const auto text = [&](const char* key) -> const std::string& {
      const auto value = message.find(key);
      if (value == message.end() || !value->is_string())
        fail("messages[", i, "].", key, " is not there or is no string");
      return value->get_ref<const std::string&>();
    };
    if (!message.is_object()) fail("messages[", i, "] is no object");
    if (text("role") != role)
      fail("messages[", i, "].role is ", in_quotes(text("role")), ", expected ", in_quotes(role));
    return text("content");
  }

  void read_messages() {
    const ConversationJson* const messages = find("messages");
    if (messages == nullptr || !messages->is_array())
      fail("messages is not there or is no list, expected one of {\"role\", \"content\"}");
    std::size_t i = 0;
    if (!messages->empty() && messages->front().is_object() && messages->front().contains("role") &&
        messages->front()["role"] == "system")
      conversation_.system = content(messages->front(), i++, "system");
    if ((messages->size() - i) % 2 != 0)
      fail("messages ends without a reply, expected user and assistant to take turns");
    const ConversationJson* const all_ids = find("reply_ids");
    const std::size_t replies = (messages->size() - i) / 2;
    if (all_ids != nullptr && (!all_ids->is_array() || all_ids->size() != replies))
      fail("reply_ids is no list of ", replies, ", one for each message of the assistant");
    for (std::size_t reply = 0; reply < replies; ++reply, i += 2) {
      std::string message = content((*messages)[i], i, "user");
      const std::string text = content((*messages)[i + 1], i + 1, "assistant");
      const auto prompt = conversation_.prompt(message);
      if (all_ids == nullptr) {
        conversation_.exchanges.push_back(conversation_.exchange(std::move(message), prompt, text));
        continue;
      }
      std::vector<gpt::TokenId> ids = ids_of((*all_ids)[reply], reply);
      if (conversation_.reply_text(prompt, ids) != text)
        fail("messages[", i + 1, "].content is not the text of reply_ids[", reply,
             "]: take out reply_ids to go on with the text");
      conversation_.exchanges.push_back({std::move(message), text, std::move(ids)});
    }
  }

  std::vector<gpt::TokenId> ids_of(const ConversationJson& list, std::size_t reply) const {
    if (!list.is_array()) fail("reply_ids[", reply, "] is no list of token ids");
    std::vector<gpt::TokenId> ids;
    for (const ConversationJson& value : list) {
      if (!value.is_number_unsigned() || std::cmp_greater_equal(value.get<std::uint64_t>(), vocab_size_))
        fail("reply_ids[", reply, "][", ids.size(), "] is no token id below vocab_size = ", vocab_size_);
      ids.push_back(static_cast<gpt::TokenId>(value.get<std::uint64_t>()));
    }
    return ids;
  }

  std::string path_;
  std::int64_t vocab_size_;
  ConversationJson file_;
  Conversation conversation_;
};

}  // namespace

std::string fingerprint_text(const gpt::Tokenizer& tokenizer) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(tokenizer.fingerprint() >> shift) & 15];
  return text;
}

std::string conversation_line(const Conversation& conversation, std::uint64_t replies) {
  ConversationJson messages = ConversationJson::array(), reply_ids = ConversationJson::array();
  const auto add = [&messages](const char* role, const std::string& content) {
    ConversationJson& message = messages.emplace_back();
    message["role"] = role;
    message["content"] = content;
  };
  if (conversation.system) add("system", *conversation.system);
  for (const Exchange& exchange : conversation.exchanges) {
    add("user", exchange.message);
    add("assistant", exchange.reply);
    reply_ids.push_back(exchange.reply_ids);
  }
  ConversationJson line;
  line["messages"] = std::move(messages);
  line["chat_template"] = std::string(conversation.form().name());
  line["tokenizer"] = fingerprint_text(conversation.tokenizer());
  line["reply_ids"] = std::move(reply_ids);
  line["replies"] = replies;
  return line.dump() + "\n";
}

LoadedConversation load_conversation(const std::string& path, const Conversation& conversation,
                                     std::int64_t vocab_size) {
  return ConversationReader(path, conversation, vocab_size).read();
}

}  // namespace program
