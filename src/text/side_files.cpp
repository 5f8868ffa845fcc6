#include "text/side_files.h"

#include <array>
#include <charconv>

#include "core/file_status.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

constexpr std::array<std::string_view, 7> kNamedTokens{"bos_token", "eos_token", "unk_token", "pad_token",
                                                       "sep_token", "cls_token", "mask_token"};

// A special token is written as its text or as an object with flags.
AddedToken to_special_token(const json::Value& value, const JsonObject& parent, std::string_view key) {
  AddedToken token;
  if (const auto* text = value.get_if<std::string>())
    token.content = *text;
  else if (value.is<json::Value::Object>())
    token = to_added_token({value, parent.source(), parent.path_of(key)});
  else
    parent.fail_type(key, "a token");
  token.special = true;
  return token;
}

}  // namespace

SideFiles::SideFiles(const std::filesystem::path& directory, std::vector<AddedToken> added_tokens)
    : added_tokens_(std::move(added_tokens)) {
  for (std::size_t i = 0; i < added_tokens_.size(); ++i) index_.emplace(added_tokens_[i].content, i);
  const auto read = [&](std::string_view name, auto&& apply) {
    const std::filesystem::path path = directory / name;
    if (!is_there(path)) return;
    std::string text = read_text_file(path);
    const std::string source = path.string();
    json::Value::Object document = json::parse_object(text, source);
    apply(document, source);
    files_.emplace_back(name, std::move(text));
  };
  read("added_tokens.json", [&](const json::Value::Object& document, const std::string& source) {
    read_added_tokens(JsonObject(document, source));
  });
  read("special_tokens_map.json", [&](const json::Value::Object& document, const std::string& source) {
    read_named_tokens(JsonObject(document, source));
  });
  read("tokenizer_config.json", [&](json::Value::Object& document, const std::string& source) {
    config_ = std::move(document);
    config_source_ = source;
    config().require_not("split_special_tokens");
    read_added_tokens_decoder(config());
    read_named_tokens(config());
  });
}

std::optional<std::string> SideFiles::named(std::string_view key) const {
  const auto found = named_.find(key);
  return found == named_.end() ? std::nullopt : found->second;
}

void SideFiles::read_added_tokens(const JsonObject& object) {
  for (const auto& [content, id] : to_vocab(object.members(), object.source()))
    add({.content = content, .id = id, .special = false}, object.source(), false);
}

// {"50256": {"content": ..., ...}, ...}
void SideFiles::read_added_tokens_decoder(const JsonObject& config) {
  const auto tokens = config.object("added_tokens_decoder");
  if (!tokens) return;
  for (const auto& [key, value] : tokens->members()) {
    AddedToken token = to_added_token({value, config.source(), tokens->path_of(key)});
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0)
      fail<FormatError>(config.source(), "added_tokens_decoder has the key ", quote(key), ", expected ",
                        kTokenIds);
    token.id = id;
    add(std::move(token), config.source(), true);
  }
}

void SideFiles::read_named_tokens(const JsonObject& object) {
  for (const std::string_view key : kNamedTokens) {
    if (!object.has(key)) continue;
    std::optional<std::string>& named = named_[std::string(key)];
    named = std::nullopt;
    const json::Value* value = object.find(key);
    if (value == nullptr) continue;  // null: there is no such token
    AddedToken token = to_special_token(*value, object, key);
    named = token.content;
    add(std::move(token), object.source(), value->is<json::Value::Object>());
  }
  constexpr std::string_view kMore = "additional_special_tokens";
  if (const json::Value::Array* more = object.array(kMore))
    for (const json::Value& value : *more)
      add(to_special_token(value, object, kMore), object.source(), value.is<json::Value::Object>());
}

void SideFiles::add(AddedToken token, std::string_view source, bool has_flags) {
  token.source = source;
  const auto [known, is_new] = index_.try_emplace(token.content, added_tokens_.size());
  if (is_new) {
    added_tokens_.push_back(std::move(token));
    return;
  }
  AddedToken& old = added_tokens_[known->second];
  if (token.id && old.id && *token.id != *old.id)
    fail<FormatError>(source, "token ", quote(token.content), " has the id ", *token.id, ", but ", *old.id,
                      " in ", old.source);
  if (!token.id) {
    token.id = old.id;
    token.source = old.source;
  }
  token.special = token.special || old.special;
  if (has_flags) {
    old = std::move(token);
  } else {
    old.id = token.id;
    old.source = token.source;
    old.special = token.special;
  }
}

}  // namespace gpt
