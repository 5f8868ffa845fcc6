// Writing the files of a byte-level BPE tokenizer.
#include <algorithm>
#include <utility>

#include "core/json.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

using json::append;
using json::object_of;
using json::Value;

void append_flags(Value::Object& object, const AddedToken& token) {
  append(object, "content", token.content, "single_word", token.single_word, "lstrip", token.lstrip, "rstrip",
         token.rstrip, "normalized", token.normalized, "special", token.special);
}

Value::Object vocab_object(const ByteBpeModel& model) {
  Value::Object object;
  for (const auto& [token, id] : model.vocab) append(object, token, id);
  return object;
}

Value or_null(const std::optional<std::string>& token) { return token ? Value(*token) : Value(nullptr); }

template <class... Items>
Value list_of(Items&&... items) {
  Value::Array list;
  (list.push_back(std::forward<Items>(items)), ...);
  return list;
}

Value::Object byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return object_of("type", "ByteLevel", "add_prefix_space", add_prefix_space, "trim_offsets", trim_offsets,
                   "use_regex", use_regex);
}

// {"SpecialToken": {"id": ..., "type_id": 0}}
Value template_part(std::string_view kind, std::string_view id) {
  return object_of(kind, object_of("id", id, "type_id", 0));
}

Value::Object template_processing(const ByteBpe& tokenizer, const ByteBpeModel& model) {
  Value::Array single;
  Value::Object tokens;
  const auto add_tokens = [&](const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      single.push_back(template_part("SpecialToken", name));
      if (json::find(tokens, name) != nullptr) continue;
      append(tokens, name,
             object_of("id", name, "ids", list_of(*tokenizer.id_of(name)), "tokens", list_of(name)));
    }
  };
  add_tokens(model.prefix_tokens);
  single.push_back(template_part("Sequence", "A"));
  add_tokens(model.suffix_tokens);
  return object_of("type", "TemplateProcessing", "single", std::move(single), "pair",
                   list_of(template_part("Sequence", "A"), template_part("Sequence", "B")), "special_tokens",
                   std::move(tokens));
}

std::string tokenizer_json(const ByteBpe& tokenizer, const ByteBpeModel& model) {
  Value::Array added;
  for (const AddedToken& token : model.added_tokens) {
    Value::Object object = object_of("id", *token.id);
    append_flags(object, token);
    added.push_back(std::move(object));
  }
  Value::Array merges;
  for (const auto& [left, right] : model.merges) merges.push_back(list_of(left, right));
  const bool has_template = !model.prefix_tokens.empty() || !model.suffix_tokens.empty();
  Value::Object root = object_of("version", "1.0", "truncation", nullptr, "padding", nullptr);
  append(root, "added_tokens", std::move(added));
  append(root, "normalizer", nullptr);
  append(root, "pre_tokenizer", byte_level(model.add_prefix_space, true, model.use_regex));
  append(root, "post_processor",
         has_template ? template_processing(tokenizer, model) : byte_level(true, false, true));
  append(root, "decoder", byte_level(true, true, true));
  Value::Object bpe = object_of("type", "BPE", "dropout", nullptr, "unk_token", or_null(model.unk_symbol));
  append(bpe, "continuing_subword_prefix", "", "end_of_word_suffix", "", "fuse_unk", false, "byte_fallback",
         false, "ignore_merges", model.ignore_merges);
  append(bpe, "vocab", vocab_object(model), "merges", std::move(merges));
  append(root, "model", std::move(bpe));
  return json::dump(root, 1) + "\n";
}

std::string tokenizer_config_json(const ByteBpeModel& model) {
  Value::Object decoder;
  for (const AddedToken& token : model.added_tokens) {
    Value::Object flags;
    append_flags(flags, token);
    append(decoder, concat(*token.id), std::move(flags));
  }
  Value::Object root =
      object_of("tokenizer_class", "GPT2Tokenizer", "add_prefix_space", model.add_prefix_space);
  append(root, "bos_token", or_null(model.bos_token), "eos_token", or_null(model.eos_token));
  append(root, "unk_token", or_null(model.unk_token), "pad_token", or_null(model.pad_token));
  append(root, "added_tokens_decoder", std::move(decoder));
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

std::vector<TokenizerFile> ByteBpe::files() const try {
  const ByteBpeModel model = this->model();
  require_merges(model);  // as those who read the files do
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
} catch (...) {
  rethrow_with_memory_errors("tokenizer");
}

}  // namespace gpt
