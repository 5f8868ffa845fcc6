#include "gpt/text/wordpiece.h"

#include <algorithm>
#include <array>

#include "core/fingerprint.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/utf8.h"
#include "text/added_tokens.h"
#include "text/bert_text.h"
#include "text/char_class.h"
#include "text/plain_vocabulary.h"
#include "text/side_files.h"
#include "text/token_table.h"
#include "text/tokenizer_files.h"
#include "text/wordpiece_decoder.h"

namespace gpt {
namespace {

constexpr std::string_view kContinues = "##";
constexpr std::size_t kMaxCharacters = 100;  // of a word

// What a token stands for inside a text.
std::string text_inside(std::string_view token) {
  return clean_up_token(token.starts_with(kContinues) ? std::string(token.substr(kContinues.size()))
                                                      : concat(" ", token));
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

class WordPiece::Impl {
 public:
  explicit Impl(WordPieceModel model);

  void encode(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& out) const;
  std::size_t last_cut(std::string_view text) const;
  std::uint64_t fingerprint() const;
  std::vector<TokenizerFile> files() const;
  const PlainVocabulary& vocabulary() const noexcept { return vocabulary_; }
  const WordPieceModel& model() const noexcept { return model_; }

  std::optional<TokenId> bos, eos, pad;
  TokenId unk = 0;

 private:
  std::optional<TokenId> id_of(const std::optional<std::string>& token, std::string_view key) const;
  std::vector<TokenId> ids_of(const std::vector<std::string>& tokens, std::string_view key) const;
  void add_to_tables();
  void encode_word(std::string_view word, std::vector<TokenId>& out) const;

  WordPieceModel model_;
  PlainVocabulary vocabulary_;
  AddedTokenFinder finder_;
  TokenTable first_, next_;  // the tokens of a word's start, and of the rest without their "##"
  std::size_t longest_ = 0;  // of their keys
  BertNormalization normalization_;
  std::vector<TokenId> prefix_, suffix_;
};

WordPiece::Impl::Impl(WordPieceModel model)
    : model_(std::move(model)), first_(model_.vocab.size()), next_(model_.vocab.size()) {
  if (model_.vocab.size() > static_cast<std::size_t>(PlainVocabulary::kMaxId))
    fail<FormatError>(model_.vocab_source, "has ", model_.vocab.size(), " tokens, expected at most ",
                      PlainVocabulary::kMaxId);
  for (const std::string& token : model_.vocab) {
    if (!is_valid_utf8(token))
      fail<FormatError>(model_.vocab_source, "token ", quote(token), " is not valid UTF-8");
    vocabulary_.append(token, text_inside(token));
  }
  add_to_tables();
  const auto unk_id = vocabulary_.find(model_.unk_token);
  if (!unk_id) fail<FormatError>(model_.vocab_source, "lacks the unk_token ", quote(model_.unk_token));
  unk = *unk_id;
  for (const AddedToken& token : model_.added_tokens)
    if (token.normalized && !token.special)
      fail<UnsupportedError>(token.source.empty() ? model_.vocab_source : token.source, "added token ",
                             quote(token.content),
                             " is looked for in the normalized text, which "
                             "libgpt does not support");
  vocabulary_.add(model_.added_tokens, model_.vocab_source, finder_);
  for (const AddedToken& token : model_.added_tokens)
    vocabulary_.set_bytes(*token.id, text_inside(token.content));
  bos = id_of(model_.bos_token, "bos_token");
  eos = id_of(model_.eos_token, "eos_token");
  pad = id_of(model_.pad_token, "pad_token");
  prefix_ = ids_of(model_.prefix_tokens, "prefix_tokens");
  suffix_ = ids_of(model_.suffix_tokens, "suffix_tokens");
  normalization_ = {.lowercase = model_.do_lower_case,
                    .strip_accents = model_.strip_accents.value_or(model_.do_lower_case),
                    .separate_ideographs = model_.tokenize_chinese_chars};
}

void WordPiece::Impl::add_to_tables() {
  for (std::size_t i = 0; i < model_.vocab.size(); ++i) {
    const std::string_view token = model_.vocab[i];
    const auto id = static_cast<TokenId>(i);
    if (vocabulary_.find(token) != id) continue;  // an equal one follows
    const bool continues = token.starts_with(kContinues) && token.size() > kContinues.size();
    // Keys are views into model_.vocab, which does not change any more.
    const std::string_view key = continues ? token.substr(kContinues.size()) : token;
    if (key.empty()) continue;
    (continues ? next_ : first_).insert(key, id);
    longest_ = std::max(longest_, key.size());
  }
}

std::optional<TokenId> WordPiece::Impl::id_of(const std::optional<std::string>& token,
                                              std::string_view key) const {
  if (!token) return std::nullopt;
  const auto id = vocabulary_.find(*token);
  if (!id) fail<FormatError>(key, quote(*token), " is neither in the vocabulary nor an added token");
  return id;
}

std::vector<TokenId> WordPiece::Impl::ids_of(const std::vector<std::string>& tokens,
                                             std::string_view key) const {
  std::vector<TokenId> ids;
  for (const std::string& token : tokens) ids.push_back(*id_of(token, key));
  return ids;
}

void WordPiece::Impl::encode_word(std::string_view word, std::vector<TokenId>& out) const {
  const std::size_t before = out.size();
  bool known = word.size() <= kMaxCharacters || count_characters(word) <= kMaxCharacters;
  for (std::size_t begin = 0; known && begin < word.size();) {
    const TokenTable& table = begin == 0 ? first_ : next_;
    known = false;
    for (std::size_t length = std::min(longest_, word.size() - begin); length > 0; --length) {
      const TokenId id = table.find(word.substr(begin, length));
      if (id < 0) continue;
      out.push_back(id);
      begin += length;
      known = true;
      break;
    }
  }
  if (known) return;
  out.resize(before);
  out.push_back(unk);
}

void WordPiece::Impl::encode(std::string_view text, const EncodeOptions& options,
                             std::vector<TokenId>& out) const {
  out.reserve(text.size() / 3 + prefix_.size() + suffix_.size());
  if (options.add_special_tokens) out = prefix_;
  for (const auto& part : finder_.split(text, options.parse_special_tokens)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    const std::string normalized = normalize_for_bert(part.text, normalization_);
    std::string_view rest = normalized;
    for (std::string_view word = take_bert_word(rest); !word.empty(); word = take_bert_word(rest))
      encode_word(word, out);
  }
  if (options.add_special_tokens && options.add_suffix_tokens)
    out.insert(out.end(), suffix_.begin(), suffix_.end());
}

std::size_t WordPiece::Impl::last_cut(std::string_view text) const {
  for (std::size_t at = text.empty() ? 0 : text.size() - 1; at > 0; --at) {
    // A space is no part of a word, nor of a character with its marks.
    if (text[at] != ' ' && text[at] != '\n') continue;
    const Utf8Prefix before = read_last_utf8(text.substr(0, at));
    if (before.kind == Utf8Prefix::Kind::kCharacter &&
        CharClassTable::instance().of(before.code_point) == CharClass::kSpace)
      continue;
    if (!finder_.touches(text, at)) return at;
  }
  return 0;
}

std::uint64_t WordPiece::Impl::fingerprint() const {
  Fingerprint all;
  all.add("WordPiece");
  vocabulary_.add_to(all);
  add_to(all, model_.added_tokens);
  all.add(normalization_.lowercase).add(normalization_.strip_accents).add(normalization_.separate_ideographs);
  all.add(unk).add(prefix_.size());
  for (const TokenId id : prefix_) all.add(id);
  for (const TokenId id : suffix_) all.add(id);
  return all.value();
}

std::vector<TokenizerFile> WordPiece::Impl::files() const {
  std::string vocab;
  for (const std::string& token : model_.vocab) vocab.append(token).append("\n");
  std::vector<TokenizerFile> files;
  files.push_back({"vocab.txt", std::move(vocab)});
  const auto is_config = [](const auto& file) { return file.first == "tokenizer_config.json"; };
  if (std::none_of(model_.files.begin(), model_.files.end(), is_config)) {
    const auto or_null = [](const auto& value) { return value ? json::Value(*value) : json::Value(nullptr); };
    json::Value::Object decoder;
    for (const AddedToken& token : model_.added_tokens)
      json::append(
          decoder, concat(*token.id),
          json::object_of("content", token.content, "single_word", token.single_word, "lstrip", token.lstrip,
                          "rstrip", token.rstrip, "normalized", token.normalized, "special", token.special));
    auto root = json::object_of("tokenizer_class", "BertTokenizer", "do_lower_case", model_.do_lower_case);
    json::append(root, "tokenize_chinese_chars", model_.tokenize_chinese_chars, "strip_accents",
                 or_null(model_.strip_accents), "clean_up_tokenization_spaces",
                 model_.clean_up_tokenization_spaces);
    json::append(root, "unk_token", model_.unk_token, "bos_token", or_null(model_.bos_token), "eos_token",
                 or_null(model_.eos_token), "pad_token", or_null(model_.pad_token));
    const auto only = [](const auto& tokens) {
      return tokens.empty() ? json::Value(nullptr) : json::Value(tokens[0]);
    };
    json::append(root, "cls_token", only(model_.prefix_tokens), "sep_token", only(model_.suffix_tokens));
    json::append(root, "added_tokens_decoder", std::move(decoder));
    files.push_back({"tokenizer_config.json", json::dump(root, 2) + "\n"});
  }
  for (const auto& [name, text] : model_.files) files.push_back({name, text});
  return files;
}

namespace {

class WordPieceDetokenizer final : public Detokenizer {
 public:
  WordPieceDetokenizer(const WordPiece& tokenizer, bool clean_up)
      : tokenizer_(tokenizer), clean_up_(clean_up) {}

  void push(TokenId id, std::string& out) override try {
    const std::string_view inside = tokenizer_.bytes_of(id);
    // The first token keeps its "##", and has no space before it.
    std::string first;
    if (is_first_) first = clean_up_token(tokenizer_.token_of(id));
    const std::string_view text = is_first_ ? std::string_view(first) : inside;
    if (clean_up_)
      cleaner_.push(text, out);
    else
      out += text;
    is_first_ = false;
  } catch (...) {
    rethrow_with_memory_errors("decode");
  }
  void flush(std::string& out) override try {
    cleaner_.flush(out);
    is_first_ = true;
  } catch (...) {
    rethrow_with_memory_errors("decode");
  }

 private:
  const WordPiece& tokenizer_;
  SpaceCleaner cleaner_;
  bool clean_up_;
  bool is_first_ = true;
};

}  // namespace

WordPiece::WordPiece(WordPieceModel model)
    : impl_(with_memory_errors("tokenizer", [&] { return std::make_unique<const Impl>(std::move(model)); })) {
}
WordPiece::~WordPiece() = default;

std::vector<TokenId> WordPiece::encode(std::string_view text, const EncodeOptions& options) const {
  return with_memory_errors("encode", [&] {
    std::vector<TokenId> ids;
    impl_->encode(text, options, ids);
    return ids;
  });
}

std::size_t WordPiece::last_cut(std::string_view text) const { return impl_->last_cut(text); }
std::unique_ptr<Detokenizer> WordPiece::start_decoding() const try {
  return std::make_unique<WordPieceDetokenizer>(*this, impl_->model().clean_up_tokenization_spaces);
} catch (...) {
  rethrow_with_memory_errors("decode");
}
bool WordPiece::has(TokenId id) const { return impl_->vocabulary().has(id); }
std::string_view WordPiece::bytes_of(TokenId id) const { return impl_->vocabulary().at(id, "decode").bytes; }
std::string_view WordPiece::token_of(TokenId id) const {
  return impl_->vocabulary().at(id, "token_of").spelling;
}
std::optional<TokenId> WordPiece::id_of(std::string_view token) const {
  return impl_->vocabulary().find(token);
}
std::int64_t WordPiece::vocab_size() const { return impl_->vocabulary().size(); }
bool WordPiece::is_special(TokenId id) const { return impl_->vocabulary().is_special(id); }
std::optional<TokenId> WordPiece::bos_token_id() const { return impl_->bos; }
std::optional<TokenId> WordPiece::eos_token_id() const { return impl_->eos; }
std::optional<TokenId> WordPiece::pad_token_id() const { return impl_->pad; }
std::optional<TokenId> WordPiece::unk_token_id() const { return impl_->unk; }
std::uint64_t WordPiece::fingerprint() const {
  return with_memory_errors("tokenizer", [&] { return impl_->fingerprint(); });
}
std::vector<TokenizerFile> WordPiece::files() const {
  return with_memory_errors("tokenizer", [&] { return impl_->files(); });
}

WordPieceModel parse_wordpiece_vocab(std::string_view text, std::string_view source) {
  return with_memory_errors(source, [&] {
    WordPieceModel model;
    model.vocab_source = source;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      std::string_view token = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (token.ends_with('\r')) token.remove_suffix(1);
      model.vocab.emplace_back(token);
    }
    if (model.vocab.empty()) fail<FormatError>(source, "has no tokens, expected one a line");
    return model;
  });
}

WordPieceModel read_wordpiece(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "vocab.txt";
  WordPieceModel model = parse_wordpiece_vocab(read_text_file(path), path.string());
  SideFiles side_files(directory, {});
  const JsonObject config = side_files.config();
  const std::string tokenizer_class = config.string("tokenizer_class").value_or("BertTokenizer");
  if (tokenizer_class != "BertTokenizer" && tokenizer_class != "BertTokenizerFast")
    config.fail_unsupported("tokenizer_class");
  if (!config.boolean("do_basic_tokenize").value_or(true)) config.fail_unsupported("do_basic_tokenize");
  if (const auto* never = config.array("never_split"); never != nullptr && !never->empty())
    config.fail_unsupported("never_split");
  model.do_lower_case = config.boolean("do_lower_case").value_or(model.do_lower_case);
  model.tokenize_chinese_chars =
      config.boolean("tokenize_chinese_chars").value_or(model.tokenize_chinese_chars);
  model.strip_accents = config.boolean("strip_accents");
  model.clean_up_tokenization_spaces = config.boolean("clean_up_tokenization_spaces").value_or(false);
  // What the class says where the files say nothing.
  const auto named = [&](std::string_view key, std::string_view otherwise) -> std::optional<std::string> {
    if (side_files.mentions(key)) return side_files.named(key);
    side_files.add({.content = std::string(otherwise)}, path.string(), false);
    return std::string(otherwise);
  };
  const auto unk = named("unk_token", "[UNK]");
  if (!unk) config.fail_unsupported("unk_token");
  model.unk_token = *unk;
  const auto sep = named("sep_token", "[SEP]");
  model.pad_token = named("pad_token", "[PAD]");
  const auto cls = named("cls_token", "[CLS]");
  named("mask_token", "[MASK]");
  if (cls) model.prefix_tokens = {*cls};
  if (sep) model.suffix_tokens = {*sep};
  model.bos_token = side_files.named("bos_token");
  model.eos_token = side_files.named("eos_token");
  model.added_tokens = side_files.added_tokens();
  model.files = side_files.files();
  return model;
}

std::shared_ptr<const WordPiece> load_wordpiece(const std::filesystem::path& directory) {
  return with_memory_errors(directory.native(),
                            [&] { return std::make_shared<const WordPiece>(read_wordpiece(directory)); });
}

}  // namespace gpt
