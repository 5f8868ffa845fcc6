#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "core/file_status.h"
#include "core/json.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/sentencepiece.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/wordpiece.h"
#include "text/json_object.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

bool has_sentencepiece(const std::filesystem::path& directory) {
  return is_there(directory / "tokenizer.model") || is_there(directory / "spiece.model");
}

enum class Kind { kByteBpe, kWordPiece, kSentencePiece };

// The kind of the model in a tokenizer.json; kByteBpe also for what only its parser can judge.
Kind kind_of(const json::Value::Object& root) {
  const json::Value* model = json::find(root, "model");
  const auto* object = model == nullptr ? nullptr : model->get_if<json::Value::Object>();
  if (object == nullptr) return Kind::kByteBpe;
  const json::Value *type = json::find(*object, "type"), *fallback = json::find(*object, "byte_fallback");
  if (type != nullptr && *type == json::Value("WordPiece")) return Kind::kWordPiece;
  if (type != nullptr && *type == json::Value("Unigram")) return Kind::kSentencePiece;
  return fallback != nullptr && *fallback == json::Value(true) ? Kind::kSentencePiece : Kind::kByteBpe;
}

// The following throw UnsupportedError naming the key of a tokenizer.json that says something else than what is read
// in its place: transformers would read the tokenizer.json.
[[noreturn]] void fail_not_the_same(const JsonObject& object, std::string_view key) {
  fail<UnsupportedError>(object.source(), object.path_of(key),
                         " is not what the files beside it say, which libgpt reads in its place");
}

void require_same(const JsonObject& object, std::string_view key, const json::Value& expected) {
  if (const json::Value* value = object.find(key); value != nullptr && *value != expected)
    fail_not_the_same(object, key);
}

void require_type(const JsonObject& root, std::string_view key, std::string_view expected) {
  const auto object = root.object(key);
  if (!object) fail_not_the_same(root, key);
  if (object->required_string("type") != expected) fail_not_the_same(*object, "type");
}

void require_same_wordpiece(const JsonObject& root, const WordPieceModel& own) {
  const JsonObject model = root.required_object("model");
  require_same(model, "unk_token", own.unk_token);
  require_same(model, "continuing_subword_prefix", "##");
  require_same(model, "max_input_chars_per_word", 100);
  std::map<std::string_view, TokenId> ids;
  for (std::size_t i = 0; i < own.vocab.size(); ++i)
    ids.insert_or_assign(own.vocab[i], static_cast<TokenId>(i));  // of equal ones the last counts
  const json::Value::Object& vocab = model.required_object("vocab").members();
  const auto is_same = [&](const json::Value::Member& member) {
    const auto found = ids.find(member.key);
    return found != ids.end() && member.value == json::Value(found->second);
  };
  if (vocab.size() != ids.size() || !std::all_of(vocab.begin(), vocab.end(), is_same))
    fail_not_the_same(model, "vocab");
  require_type(root, "normalizer", "BertNormalizer");
  require_type(root, "pre_tokenizer", "BertPreTokenizer");
  const JsonObject normalizer = root.required_object("normalizer");
  require_same(normalizer, "clean_text", true);
  require_same(normalizer, "handle_chinese_chars", own.tokenize_chinese_chars);
  require_same(normalizer, "lowercase", own.do_lower_case);
  if (normalizer.boolean("strip_accents").value_or(own.do_lower_case) !=
      own.strip_accents.value_or(own.do_lower_case))
    fail_not_the_same(normalizer, "strip_accents");
  if (!root.object("post_processor") && (!own.prefix_tokens.empty() || !own.suffix_tokens.empty()))
    fail_not_the_same(root, "post_processor");
}

void require_same_pieces(const JsonObject& root, const Tokenizer& own) {
  const JsonObject model = root.required_object("model");
  if (model.required_string("type") != "Unigram") {
    for (const auto& [piece, id] : to_vocab(model.required_object("vocab").members(), root.source()))
      if (own.id_of(piece) != id) fail_not_the_same(model, "vocab");
    return;
  }
  const json::Value::Array* vocab = model.array("vocab");
  if (vocab == nullptr) model.fail_type("vocab", "a list");
  for (std::size_t i = 0; i < vocab->size(); ++i) {
    const auto* entry = (*vocab)[i].get_if<json::Value::Array>();  // [piece, score]
    const auto* piece = entry == nullptr || entry->empty() ? nullptr : entry->front().get_if<std::string>();
    if (piece == nullptr) model.fail_type("vocab", "a list of pieces and scores");
    const auto id = own.id_of(*piece);
    if (!id || std::cmp_not_equal(*id, i)) fail_not_the_same(model, "vocab");
  }
}

void require_same_added_tokens(const JsonObject& root, const Tokenizer& own) {
  const json::Value::Array* tokens = root.array("added_tokens");
  for (std::size_t i = 0; tokens != nullptr && i < tokens->size(); ++i) {
    const JsonObject token((*tokens)[i], root.source(), concat("added_tokens[", i, "]"));
    if (own.id_of(token.required_string("content")) != token.token_id("id")) fail_not_the_same(token, "id");
  }
}

// What to read in a directory that has a tokenizer, and the tokenizer.json that is passed over for it.
struct Choice {
  Kind kind = Kind::kByteBpe;
  std::optional<json::Value::Object> passed_over = {};
};

Choice choose(const std::filesystem::path& directory) {
  const bool has_vocab_txt = is_there(directory / "vocab.txt"), has_model = has_sentencepiece(directory);
  const std::filesystem::path json = directory / "tokenizer.json";
  if (is_there(json)) {
    if (!has_vocab_txt && !has_model) return {};
    json::Value::Object root = json::parse_object(read_text_file(json), json.string());
    const Kind kind = kind_of(root);
    if (kind == Kind::kByteBpe || !(kind == Kind::kWordPiece ? has_vocab_txt : has_model)) return {};
    return {kind, std::move(root)};
  }
  if (is_there(directory / "vocab.json") || is_there(directory / "merges.txt")) return {};
  return {has_vocab_txt ? Kind::kWordPiece : Kind::kSentencePiece};
}

std::shared_ptr<const Tokenizer> load(const std::filesystem::path& directory,
                                      const std::function<void(std::string_view)>& on_warning) {
  const std::filesystem::path json = directory / "tokenizer.json";
  const Choice choice = choose(directory);
  if (choice.kind == Kind::kWordPiece) {
    WordPieceModel model = read_wordpiece(directory);
    if (choice.passed_over) require_same_wordpiece(JsonObject(*choice.passed_over, json.native()), model);
    auto tokenizer = std::make_shared<const WordPiece>(std::move(model));
    if (choice.passed_over)
      require_same_added_tokens(JsonObject(*choice.passed_over, json.native()), *tokenizer);
    return tokenizer;
  }
  if (choice.kind == Kind::kSentencePiece) {
    auto tokenizer = load_sentencepiece(directory, on_warning);
    if (choice.passed_over) {
      require_same_pieces(JsonObject(*choice.passed_over, json.native()), *tokenizer);
      require_same_added_tokens(JsonObject(*choice.passed_over, json.native()), *tokenizer);
    }
    return tokenizer;
  }
  ByteBpeModel model;
  if (is_there(json)) {
    model = parse_tokenizer_json(read_text_file(json), json.string());
  } else {
    const auto vocab = directory / "vocab.json", merges = directory / "merges.txt";
    model = parse_vocab_and_merges(read_text_file(vocab), read_text_file(merges), vocab.string(),
                                   merges.string());
  }
  apply_side_files(model, directory, on_warning);
  require_merges(model);
  return std::make_shared<ByteBpe>(std::move(model));
}

}  // namespace

bool has_tokenizer(const std::filesystem::path& directory) try {
  constexpr std::array<std::string_view, 4> kNames{"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view name) { return is_there(directory / name); }) ||
         has_sentencepiece(directory);
} catch (...) {
  rethrow_with_memory_errors(directory.native());
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& directory,
                                                const std::function<void(std::string_view)>& on_warning) {
  if (!has_tokenizer(directory))
    fail<IoError>(directory.string(),
                  "has no tokenizer: expected tokenizer.json, vocab.json and "
                  "merges.txt, vocab.txt, "
                  "tokenizer.model or spiece.model");
  return with_memory_errors(directory.native(), [&] { return load(directory, on_warning); });
}

}  // namespace gpt
