#include <algorithm>
#include <array>

#include "core/file_status.h"
#include "core/json.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/sentencepiece.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/wordpiece.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

bool has_sentencepiece(const std::filesystem::path& directory) {
  return is_there(directory / "tokenizer.model") || is_there(directory / "spiece.model");
}

enum class Kind { kByteBpe, kWordPiece, kSentencePiece };

// The kind of the model in a tokenizer.json; kByteBpe also for what only its parser can judge.
Kind kind_of(std::string_view tokenizer_json, std::string_view source) {
  const json::Value::Object root = json::parse_object(tokenizer_json, source);
  const json::Value* model = json::find(root, "model");
  const auto* object = model == nullptr ? nullptr : model->get_if<json::Value::Object>();
  if (object == nullptr) return Kind::kByteBpe;
  const json::Value *type = json::find(*object, "type"), *fallback = json::find(*object, "byte_fallback");
  if (type != nullptr && *type == json::Value("WordPiece")) return Kind::kWordPiece;
  if (type != nullptr && *type == json::Value("Unigram")) return Kind::kSentencePiece;
  return fallback != nullptr && *fallback == json::Value(true) ? Kind::kSentencePiece : Kind::kByteBpe;
}

// What to read in a directory that has a tokenizer.
Kind choose(const std::filesystem::path& directory) {
  const bool has_vocab_txt = is_there(directory / "vocab.txt"), has_model = has_sentencepiece(directory);
  const std::filesystem::path json = directory / "tokenizer.json";
  if (is_there(json)) {
    if (!has_vocab_txt && !has_model) return Kind::kByteBpe;
    const Kind kind = kind_of(read_text_file(json), json.string());
    return (kind == Kind::kWordPiece ? has_vocab_txt : has_model) ? kind : Kind::kByteBpe;
  }
  if (is_there(directory / "vocab.json") || is_there(directory / "merges.txt")) return Kind::kByteBpe;
  return has_vocab_txt ? Kind::kWordPiece : Kind::kSentencePiece;
}

}  // namespace

bool has_tokenizer(const std::filesystem::path& directory) {
  constexpr std::array<std::string_view, 4> kNames{"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view name) { return is_there(directory / name); }) ||
         has_sentencepiece(directory);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& directory) {
  if (!has_tokenizer(directory))
    fail<IoError>(directory.string(),
                  "has no tokenizer: expected tokenizer.json, vocab.json and merges.txt, vocab.txt, "
                  "tokenizer.model or spiece.model");
  switch (choose(directory)) {
    case Kind::kWordPiece: return load_wordpiece(directory);
    case Kind::kSentencePiece: return load_sentencepiece(directory);
    case Kind::kByteBpe: break;
  }
  ByteBpeModel model;
  if (const auto path = directory / "tokenizer.json"; is_there(path)) {
    model = parse_tokenizer_json(read_text_file(path), path.string());
  } else {
    const auto vocab = directory / "vocab.json", merges = directory / "merges.txt";
    model = parse_vocab_and_merges(read_text_file(vocab), read_text_file(merges), vocab.string(),
                                   merges.string());
  }
  apply_side_files(model, directory);
  return std::make_shared<ByteBpe>(std::move(model));
}

}  // namespace gpt
