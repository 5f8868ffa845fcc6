// Writing the files of a byte-level BPE tokenizer.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"

namespace gpt {
namespace {

using json::Value;

// Without the search for an equal key that operator[] makes.
template <class T>
void append(Value& object, std::string key, T&& value) {
  static_cast<Value::object_t::Container&>(object.get_ref<Value::object_t&>())
      .emplace_back(std::move(key), std::forward<T>(value));
}

Value with_flags(Value object, const AddedToken& token) {
  object["content"] = token.content;
  object["single_word"] = token.single_word;
  object["lstrip"] = token.lstrip;
  object["rstrip"] = token.rstrip;
  object["normalized"] = token.normalized;
  object["special"] = token.special;
  return object;
}

Value vocab_object(const ByteBpeModel& model) {
  Value object = Value::object();
  for (const auto& [token, id] : model.vocab) append(object, token, id);
  return object;
}

Value or_null(const std::optional<std::string>& token) { return token ? Value(*token) : Value(nullptr); }

Value byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Value template_processing(const ByteBpe& tokenizer, const ByteBpeModel& model) {
  Value single = Value::array(), tokens = Value::object();
  const auto add_tokens = [&](const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
      tokens[name] = {
          {"id", name}, {"ids", Value::array({*tokenizer.id_of(name)})}, {"tokens", Value::array({name})}};
    }
  };
  const auto sequence = [](std::string_view id) { return Value{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
  add_tokens(model.prefix_tokens);
  single.push_back(sequence("A"));
  add_tokens(model.suffix_tokens);
  const Value pair = Value::array({sequence("A"), sequence("B")});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

std::string tokenizer_json(const ByteBpe& tokenizer, const ByteBpeModel& model) {
  Value added = Value::array();
  for (const AddedToken& token : model.added_tokens) added.push_back(with_flags({{"id", *token.id}}, token));
  Value merges = Value::array();
  for (const auto& [left, right] : model.merges) merges.push_back(Value::array({left, right}));
  const bool has_template = !model.prefix_tokens.empty() || !model.suffix_tokens.empty();
  const Value root = {{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", std::move(added)},
                      {"normalizer", nullptr},
                      {"pre_tokenizer", byte_level(model.add_prefix_space, true, model.use_regex)},
                      {"post_processor",
                       has_template ? template_processing(tokenizer, model) : byte_level(true, false, true)},
                      {"decoder", byte_level(true, true, true)},
                      {"model",
                       {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", or_null(model.unk_symbol)},
                        {"continuing_subword_prefix", ""},
                        {"end_of_word_suffix", ""},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"ignore_merges", model.ignore_merges},
                        {"vocab", vocab_object(model)},
                        {"merges", std::move(merges)}}}};
  return json::dump(root, 1) + "\n";
}

std::string tokenizer_config_json(const ByteBpeModel& model) {
  Value decoder = Value::object();
  for (const AddedToken& token : model.added_tokens)
    append(decoder, concat(*token.id), with_flags(Value::object(), token));
  const Value root = {
      {"tokenizer_class", "GPT2Tokenizer"},        {"add_prefix_space", model.add_prefix_space},
      {"bos_token", or_null(model.bos_token)},     {"eos_token", or_null(model.eos_token)},
      {"unk_token", or_null(model.unk_token)},     {"pad_token", or_null(model.pad_token)},
      {"added_tokens_decoder", std::move(decoder)}};
  return json::dump(root, 2) + "\n";
}

// A merge whose tokens hold spaces or begin as the comment does can stand in tokenizer.json alone.
bool fits_merges_txt(const std::pair<std::string, std::string>& merge) {
  const auto is_free = [](const std::string& token) { return token.find_first_of(" \r\n") == token.npos; };
  return !merge.first.empty() && !merge.second.empty() && is_free(merge.first) && is_free(merge.second) &&
         !merge.first.starts_with("#version");
}

// vocab.json and merges.txt alone mean GPT-2's way of splitting and merging.
bool fits_vocab_and_merges(const ByteBpeModel& model) {
  return !model.ignore_merges && model.use_regex && !model.unk_symbol &&
         std::all_of(model.merges.begin(), model.merges.end(), fits_merges_txt);
}

std::string merges_txt(const ByteBpeModel& model) {
  std::string text = "#version: 0.2\n";
  for (const auto& [left, right] : model.merges) text.append(left).append(" ").append(right).append("\n");
  return text;
}

}  // namespace

std::vector<TokenizerFile> ByteBpe::files() const {
  const ByteBpeModel model = this->model();
  std::vector<TokenizerFile> files;
  const auto has_file = [&](std::string_view name) {
    return std::any_of(model.files.begin(), model.files.end(),
                       [&](const auto& file) { return file.first == name; });
  };
  if (!has_file("tokenizer.json")) {
    files.push_back({"tokenizer.json", tokenizer_json(*this, model)});
    // Without it the tokens' uses would be lost; beside a tokenizer.json that was read there may rightly be
    // none.
    if (!has_file("tokenizer_config.json"))
      files.push_back({"tokenizer_config.json", tokenizer_config_json(model)});
  }
  if (fits_vocab_and_merges(model)) {
    files.push_back({"vocab.json", json::dump(vocab_object(model)) + "\n"});
    files.push_back({"merges.txt", merges_txt(model)});
  }
  for (const auto& [name, text] : model.files) files.push_back({name, text});
  return files;
}

}  // namespace gpt
