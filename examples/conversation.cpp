#include "conversation.h"

#include <algorithm>
#include <utility>

#include <gpt/core/error.h>
#include <gpt/text/stream_decoder.h>

namespace program {
namespace {

using gpt::ChatPart;
using gpt::TokenId;

/// The bytes of a token; none for an id that only the network has.
std::string_view bytes_of(const gpt::Tokenizer& tokenizer, TokenId id) {
  return tokenizer.has(id) ? tokenizer.bytes_of(id) : std::string_view();
}

/// Where the first stop string begins that ends inside the last token: a place in `before` and `bytes` joined.
std::optional<std::size_t> find_stop(std::string_view text, std::size_t last_token,
                                     std::span<const std::string> stop_strings) {
  std::optional<std::size_t> found;
  for (const std::string& stop : stop_strings) {
    const std::size_t from = last_token < stop.size() ? 0 : last_token - stop.size() + 1;
    if (const std::size_t place = text.find(stop, from); place != text.npos)
      found = std::min(found.value_or(place), place);
  }
  return found;
}

}  // namespace

std::string last_bytes(const gpt::Tokenizer& tokenizer, std::span<const TokenId> ids, std::size_t count) {
  std::string bytes;
  while (!ids.empty() && bytes.size() < count) {
    bytes.insert(0, bytes_of(tokenizer, ids.back()));
    ids = ids.first(ids.size() - 1);
  }
  return bytes;
}

std::vector<TokenId> Conversation::prompt(std::string_view message, std::size_t first) const {
  std::vector<gpt::ChatMessage> messages;
  if (system) messages.push_back({"system", *system});
  for (std::size_t i = first; i < exchanges.size(); ++i) {
    messages.push_back({"user", exchanges[i].message});
    messages.push_back({"assistant", exchanges[i].reply});
  }
  messages.push_back({"user", std::string(message)});
  messages.push_back({"assistant", ""});  // whose stretch is not encoded
  std::vector<TokenId> ids;
  std::size_t reply = first;
  for (const ChatPart& part : form_.parts(messages, has_eos())) {
    if (!part.learned) {
      gpt::append_ids(ids, part, *tokenizer_);
      continue;
    }
    // There is a stretch of the user's between any two of the assistant's.
    if (reply == exchanges.size()) break;
    const auto& reply_ids = exchanges[reply++].reply_ids;
    ids.insert(ids.end(), reply_ids.begin(), reply_ids.end());
  }
  return ids;
}

Exchange Conversation::exchange(std::string message, std::span<const TokenId> prompt,
                                const gpt::GenerateResult& result,
                                std::span<const std::string> stop_strings) const {
  std::span<const TokenId> ids = result.ids;
  if (result.finish_reason == gpt::FinishReason::kEos) ids = ids.first(ids.size() - 1);
  std::vector<std::size_t> begins;  // of the tokens in the bytes
  std::string bytes;
  for (const TokenId id : ids) {
    begins.push_back(bytes.size());
    bytes += bytes_of(*tokenizer_, id);
  }
  const ChatPart end = form_.reply_end(has_eos());
  std::size_t length = bytes.size();
  if (result.finish_reason == gpt::FinishReason::kStopString && !ids.empty()) {
    std::size_t longest = 0;
    for (const std::string& stop : stop_strings) longest = std::max(longest, stop.size());
    const std::string before = last_bytes(*tokenizer_, prompt, longest);
    if (const auto stop = find_stop(before + bytes, before.size() + begins.back(), stop_strings))
      length = *stop < before.size() ? 0 : *stop - before.size();
    // What the form ends a reply by may be the stop string, or its beginning.
    if (bytes.compare(length, end.text.size(), end.text) == 0) length += end.text.size();
  }
  std::size_t kept = 0;
  while (kept < ids.size() && begins[kept] + bytes_of(*tokenizer_, ids[kept]).size() <= length) ++kept;
  std::vector<TokenId> all(prompt.begin(), prompt.end());
  all.insert(all.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept));
  if (kept < ids.size() && begins[kept] < length)
    gpt::append_ids(all, {.text = bytes.substr(begins[kept], length - begins[kept])}, *tokenizer_, false);
  const bool is_ended = std::string_view(bytes).substr(0, length).ends_with(end.text);
  gpt::append_ids(all, {.text = is_ended ? "" : end.text, .eos = end.eos}, *tokenizer_);
  Exchange exchange{.message = std::move(message), .reply = {}, .reply_ids = {}};
  exchange.reply_ids.assign(all.begin() + std::ssize(prompt), all.end());
  exchange.reply = reply_text(prompt, exchange.reply_ids);
  return exchange;
}

Exchange Conversation::exchange(std::string message, std::span<const TokenId> prompt,
                                std::string_view reply) const {
  ChatPart part = form_.reply_end(has_eos());
  part.text = gpt::concat(form_.reply_begin(), reply, part.text);
  std::vector<TokenId> all(prompt.begin(), prompt.end());
  gpt::append_ids(all, part, *tokenizer_);
  return {.message = std::move(message),
          .reply = std::string(reply),
          .reply_ids = {all.begin() + std::ssize(prompt), all.end()}};
}

std::string Conversation::reply_text(std::span<const TokenId> prompt, std::span<const TokenId> ids) const {
  gpt::StreamDecoder decoder(*tokenizer_, {.skip_special_tokens = true});
  for (const TokenId id : prompt)
    if (tokenizer_->has(id)) decoder.skip(id);
  const ChatPart end = form_.reply_end(has_eos());
  if (end.eos && !ids.empty() && ids.back() == tokenizer_->eos_token_id()) ids = ids.first(ids.size() - 1);
  std::string text;
  for (const TokenId id : ids)
    if (tokenizer_->has(id)) text += decoder.push(id);
  text += decoder.flush();
  if (text.starts_with(form_.reply_begin())) text.erase(0, form_.reply_begin().size());
  if (text.ends_with(end.text)) text.erase(text.size() - end.text.size());
  return text;
}

}  // namespace program
