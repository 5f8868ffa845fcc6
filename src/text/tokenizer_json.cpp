// Reading tokenizer.json, the format of the tokenizers library.
#include <set>

#include "core/json.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/json_object.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

std::string path_of(std::string_view array, std::size_t i) { return concat(array, "[", i, "]"); }

void read_merges(const JsonObject& object, ByteBpeModel& model) {
  const json::Value::Array* merges = object.array("merges");
  if (merges == nullptr) object.fail_type("merges", "a list");
  model.merges.reserve(merges->size());
  for (const json::Value& merge : *merges) {
    std::optional<std::pair<std::string, std::string>> pair;
    if (const auto* text = merge.get_if<std::string>()) {
      pair = split_merge(*text);
    } else if (const auto* list = merge.get_if<json::Value::Array>(); list != nullptr && list->size() == 2) {
      const auto *left = list->front().get_if<std::string>(), *right = list->back().get_if<std::string>();
      if (left != nullptr && right != nullptr) pair.emplace(*left, *right);
    }
    if (!pair)
      fail<FormatError>(object.source(), path_of("model.merges", model.merges.size()), " is ",
                        json::describe(merge), ", expected \"a b\" or [\"a\", \"b\"]");
    model.merges.push_back(*std::move(pair));
  }
}

void read_model(const JsonObject& object, ByteBpeModel& model) {
  if (object.string("type").value_or("BPE") != "BPE") object.fail_unsupported("type");
  object.require_known({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                        "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (const json::Value* dropout = object.find("dropout"); dropout != nullptr && dropout->to_double() != 0.0)
    object.fail_unsupported("dropout");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!object.string(key).value_or("").empty()) object.fail_unsupported(key);
  object.require_not("fuse_unk");
  object.require_not("byte_fallback");
  model.ignore_merges = object.boolean("ignore_merges").value_or(false);
  model.unk_symbol = object.string("unk_token");

  const JsonObject vocab = object.required_object("vocab");
  model.vocab_source = concat(object.source(), ": model.vocab");
  model.merges_source = concat(object.source(), ": model.merges");
  model.vocab = to_vocab(vocab.members(), model.vocab_source);
  read_merges(object, model);
}

// The one object of type ByteLevel that `object` is, or that its Sequence holds alone under `list_key`.
JsonObject byte_level_of(const JsonObject& object, std::string_view list_key) {
  const std::string type = object.required_string("type");
  if (type == "ByteLevel") return object;
  const json::Value::Array* list = type == "Sequence" ? object.array(list_key) : nullptr;
  if (list == nullptr) object.fail_unsupported("type");
  if (list->size() == 1)
    return byte_level_of({list->front(), object.source(), path_of(object.path_of(list_key), 0)}, list_key);
  // Name the first that is not ByteLevel; two ByteLevels would spell the bytes twice.
  for (std::size_t i = 0; i < list->size(); ++i) {
    const JsonObject part((*list)[i], object.source(), path_of(object.path_of(list_key), i));
    if (part.required_string("type") != "ByteLevel") part.fail_unsupported("type");
  }
  object.fail_unsupported(list_key);
}

void read_pre_tokenizer(const JsonObject& root, ByteBpeModel& model) {
  const auto pre_tokenizer = root.object("pre_tokenizer");
  if (!pre_tokenizer) root.fail_unsupported("pre_tokenizer");
  const JsonObject byte_level = byte_level_of(*pre_tokenizer, "pretokenizers");
  byte_level.require_known({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  // transformers' library refuses a null, which is neither.
  for (const std::string_view key : {"add_prefix_space", "trim_offsets", "use_regex"})
    if (byte_level.has(key) && byte_level.find(key) == nullptr) byte_level.fail_type(key, "true or false");
  model.add_prefix_space = byte_level.boolean("add_prefix_space").value_or(true);  // the library's defaults
  model.use_regex = byte_level.boolean("use_regex").value_or(true);
}

void read_decoder(const JsonObject& root) {
  const auto decoder = root.object("decoder");
  if (!decoder) root.fail_unsupported("decoder");
  byte_level_of(*decoder, "decoders");
}

void read_normalizer(const JsonObject& root) {
  const auto normalizer = root.object("normalizer");
  if (!normalizer) return;
  if (normalizer->required_string("type") != "Sequence") normalizer->fail_unsupported("type");
  if (const json::Value::Array* parts = normalizer->array("normalizers"); parts == nullptr || !parts->empty())
    normalizer->fail_unsupported("normalizers");
}

// A template that is longer leaves no network a text. Each of its parts is looked for among all special tokens.
constexpr std::size_t kMostTemplate = 256;

// The tokens before and after the text, from "single": [..., {"Sequence": {"id": "A"}}, ...].
void read_template(const JsonObject& object, ByteBpeModel& model) {
  const json::Value::Array* single = object.array("single");
  if (single == nullptr) object.fail_type("single", "a list");
  if (single->size() > kMostTemplate)
    fail<UnsupportedError>(object.source(), object.path_of("single"), " has ", single->size(),
                           " parts, expected ", kMostTemplate, " at most");
  std::vector<std::string>* side = &model.prefix_tokens;
  for (std::size_t i = 0; i < single->size(); ++i) {
    const JsonObject part((*single)[i], object.source(), path_of(object.path_of("single"), i));
    if (const auto special = part.object("SpecialToken")) {
      const std::string id = special->required_string("id");
      const JsonObject token = object.required_object("special_tokens").required_object(id);
      const json::Value::Array* tokens = token.array("tokens");
      if (tokens == nullptr) token.fail_type("tokens", "a list");
      for (const json::Value& name : *tokens) {
        const auto* text = name.get_if<std::string>();
        if (text == nullptr) token.fail_type("tokens", "a list of strings");
        if (model.prefix_tokens.size() + model.suffix_tokens.size() == kMostTemplate)
          fail<UnsupportedError>(object.source(), object.path_of("single"), " stands for more than ",
                                 kMostTemplate, " tokens");
        side->push_back(*text);
      }
    } else if (const auto sequence = part.object("Sequence")) {
      if (sequence->required_string("id") != "A" || side == &model.suffix_tokens)
        object.fail_unsupported("single");
      side = &model.suffix_tokens;
    } else {
      object.fail_unsupported("single");
    }
  }
  if (side == &model.prefix_tokens) object.fail_unsupported("single");  // nowhere would the text go
}

void read_post_processor(const JsonObject& object, ByteBpeModel& model) {
  const std::string type = object.required_string("type");
  if (type == "ByteLevel") return;  // changes offsets only
  if (type == "TemplateProcessing") {
    if (!model.prefix_tokens.empty() || !model.suffix_tokens.empty()) object.fail_unsupported("type");
    return read_template(object, model);
  }
  const json::Value::Array* list = type == "Sequence" ? object.array("processors") : nullptr;
  if (list == nullptr) object.fail_unsupported("type");
  for (std::size_t i = 0; i < list->size(); ++i)
    read_post_processor({(*list)[i], object.source(), path_of(object.path_of("processors"), i)}, model);
}

void read_added_tokens(const JsonObject& root, ByteBpeModel& model) {
  const json::Value::Array* tokens = root.array("added_tokens");
  if (tokens == nullptr) return;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    const JsonObject object((*tokens)[i], root.source(), path_of("added_tokens", i));
    AddedToken token = to_added_token(object);
    token.id = object.token_id("id");
    token.source = concat(root.source(), ": ", path_of("added_tokens", i));
    if (!seen.insert(token.content).second)
      fail<FormatError>(root.source(), path_of("added_tokens", i), " repeats the token ",
                        quote(token.content));
    model.added_tokens.push_back(std::move(token));
  }
}

}  // namespace

AddedToken to_added_token(const JsonObject& object) {
  return {.content = object.required_string("content"),
          .special = object.boolean("special").value_or(false),
          .lstrip = object.boolean("lstrip").value_or(false),
          .rstrip = object.boolean("rstrip").value_or(false),
          .single_word = object.boolean("single_word").value_or(false),
          .normalized = object.boolean("normalized").value_or(false)};
}

ByteBpeModel parse_tokenizer_json(std::string_view text, std::string_view source) {
  const json::Value::Object document = json::parse_object(text, source);
  const JsonObject root(document, source);
  // transformers resets truncation and padding; they do not reach an encoded text.
  root.require_known({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                      "post_processor", "decoder", "model"});
  if (root.string("version").value_or("1.0") != "1.0") root.fail_unsupported("version");
  ByteBpeModel model;
  read_model(root.required_object("model"), model);
  read_added_tokens(root, model);
  read_normalizer(root);
  read_pre_tokenizer(root, model);
  if (const auto post_processor = root.object("post_processor")) read_post_processor(*post_processor, model);
  read_decoder(root);
  model.files.emplace_back("tokenizer.json", text);
  return model;
}

}  // namespace gpt
