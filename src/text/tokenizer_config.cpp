// The files beside a tokenizer's vocabulary: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json.
#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <unordered_map>

#include "core/file_status.h"
#include "core/json.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "text/json_object.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

struct NamedToken {
  std::string_view key;
  std::optional<std::string> ByteBpeModel::*member;  // null: special, but nothing asks for it by name
  bool is_end_of_text;                               // GPT-2's default
};
constexpr std::array<NamedToken, 7> kNamedTokens{{{"bos_token", &ByteBpeModel::bos_token, true},
                                                  {"eos_token", &ByteBpeModel::eos_token, true},
                                                  {"unk_token", &ByteBpeModel::unk_token, true},
                                                  {"pad_token", &ByteBpeModel::pad_token, false},
                                                  {"sep_token", nullptr, false},
                                                  {"cls_token", nullptr, false},
                                                  {"mask_token", nullptr, false}}};

bool is_gpt2_class(std::string_view name) { return name == "GPT2Tokenizer" || name == "GPT2TokenizerFast"; }

// The classes that read vocab.json and merges.txt as GPT-2's; Roberta's and others add tokens of their own.
bool reads_files_as_gpt2(std::string_view name) {
  return is_gpt2_class(name) || name == "PreTrainedTokenizerFast" || name == "TokenizersBackend";
}

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

// Applies the files one by one to a model.
class SideFiles {
 public:
  explicit SideFiles(ByteBpeModel& model) : model_(model), has_tokenizer_json_(!model.files.empty()) {
    for (std::size_t i = 0; i < model.added_tokens.size(); ++i)
      index_.emplace(model.added_tokens[i].content, i);
  }

  void read_added_tokens(const JsonObject& object) {
    for (const auto& [content, id] : to_vocab(object.members(), object.source()))
      add({.content = content, .id = id, .special = false}, object.source(), false);
  }

  void read_special_tokens_map(const JsonObject& object) { read_named_tokens(object); }

  void read_config(const JsonObject& object) {
    tokenizer_class_ = object.string("tokenizer_class").value_or(tokenizer_class_);
    if (!has_tokenizer_json_ && !reads_files_as_gpt2(tokenizer_class_))
      object.fail_unsupported("tokenizer_class");
    object.require_not("split_special_tokens");
    read_added_tokens_decoder(object);
    read_named_tokens(object);
    model_.add_prefix_space = object.boolean("add_prefix_space").value_or(model_.add_prefix_space);
    add_bos_ = object.boolean("add_bos_token").value_or(false);
    add_eos_ = object.boolean("add_eos_token").value_or(false);
  }

  // What GPT-2's class says where the files say nothing, and what depends on all files.
  void finish(std::string_view source) {
    if (is_gpt2_class(tokenizer_class_) && knows(kEndOfText))
      for (const NamedToken& named : kNamedTokens)
        if (named.is_end_of_text && !mentioned_.contains(named.key)) {
          model_.*named.member = kEndOfText;
          add({.content = std::string(kEndOfText)}, source, false);
        }
    if (add_bos_) {
      if (!model_.bos_token) fail<FormatError>(source, "add_bos_token is true, but there is no bos_token");
      auto& tokens = model_.prefix_tokens;
      if (tokens.empty() || tokens.front() != *model_.bos_token)
        tokens.insert(tokens.begin(), *model_.bos_token);
    }
    if (add_eos_) {
      if (!model_.eos_token) fail<FormatError>(source, "add_eos_token is true, but there is no eos_token");
      auto& tokens = model_.suffix_tokens;
      if (tokens.empty() || tokens.back() != *model_.eos_token) tokens.push_back(*model_.eos_token);
    }
  }

 private:
  // {"50256": {"content": ..., ...}, ...}
  void read_added_tokens_decoder(const JsonObject& config) {
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

  void read_named_tokens(const JsonObject& object) {
    for (const NamedToken& named : kNamedTokens) {
      if (!object.has(named.key)) continue;
      mentioned_.insert(named.key);
      const json::Value* value = object.find(named.key);
      if (named.member != nullptr) model_.*named.member = std::nullopt;
      if (value == nullptr) continue;  // null: there is no such token
      AddedToken token = to_special_token(*value, object, named.key);
      if (named.member != nullptr) model_.*named.member = token.content;
      add(std::move(token), object.source(), value->is<json::Value::Object>());
    }
    constexpr std::string_view kMore = "additional_special_tokens";
    if (const json::Value::Array* more = object.array(kMore))
      for (const json::Value& value : *more)
        add(to_special_token(value, object, kMore), object.source(), value.is<json::Value::Object>());
  }

  // Adds a token; one that is there already takes the new flags if they were written out, and stays special.
  void add(AddedToken token, std::string_view source, bool has_flags) {
    token.source = source;
    const auto [known, is_new] = index_.try_emplace(token.content, model_.added_tokens.size());
    if (is_new) {
      model_.added_tokens.push_back(std::move(token));
      return;
    }
    AddedToken& old = model_.added_tokens[known->second];
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

  bool knows(std::string_view token) const {
    return index_.contains(std::string(token)) ||
           std::any_of(model_.vocab.begin(), model_.vocab.end(),
                       [&](const auto& t) { return t.first == token; });
  }

  ByteBpeModel& model_;
  bool has_tokenizer_json_;
  std::unordered_map<std::string, std::size_t> index_;  // of added_tokens by content
  std::set<std::string_view> mentioned_;                // keys of kNamedTokens
  std::string tokenizer_class_ = "GPT2Tokenizer";
  bool add_bos_ = false, add_eos_ = false;
};

}  // namespace

void apply_side_files(ByteBpeModel& model, const std::filesystem::path& directory) {
  SideFiles side_files(model);
  const auto read = [&](std::string_view name, void (SideFiles::*apply)(const JsonObject&)) {
    const std::filesystem::path path = directory / name;
    if (!is_there(path)) return;
    std::string text = read_text_file(path);
    const std::string source = path.string();
    const json::Value::Object document = json::parse_object(text, source);
    (side_files.*apply)(JsonObject(document, source));
    model.files.emplace_back(name, std::move(text));
  };
  // The later file wins, as in transformers.
  read("added_tokens.json", &SideFiles::read_added_tokens);
  read("special_tokens_map.json", &SideFiles::read_special_tokens_map);
  read("tokenizer_config.json", &SideFiles::read_config);
  side_files.finish(directory.string());
}

}  // namespace gpt
