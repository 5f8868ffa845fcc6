#include "gpt/text/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <span>

#include "core/file_status.h"
#include "core/fingerprint.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "text/added_tokens.h"
#include "text/plain_vocabulary.h"
#include "text/sentencepiece_proto.h"
#include "text/side_files.h"
#include "text/tokenizer_files.h"
#include "text/wordpiece_decoder.h"

namespace gpt {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

/// The processor of a model. Throws FormatError naming the source.
std::unique_ptr<SentencePieceProcessor> make_processor(const std::string& model, std::string_view source) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  try {
    const auto status = processor->LoadFromSerializedProto(model);
    if (!status.ok()) fail<FormatError>(source, "is no sentencepiece model: ", status.message());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // of the trie that it builds
    fail<FormatError>(source, "is no sentencepiece model: ", error.what());
  }
  return processor;
}

// The bytes of a byte piece "<0x0A>".
std::string byte_of(std::string_view piece) {
  unsigned byte = 0;
  for (const char c : piece.substr(3, 2)) {
    const auto digit = static_cast<unsigned char>(c);
    byte = byte * 16 + (digit <= '9' ? digit - unsigned{'0'} : digit - unsigned{'A'} + 10);
  }
  return {static_cast<char>(byte)};
}

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (std::size_t at = piece.find(kSpace); at != piece.npos; at = piece.find(kSpace)) {
    out.append(piece.substr(0, at)).append(" ");
    piece.remove_prefix(at + kSpace.size());
  }
  return out.append(piece);
}

class SentencePiece final : public Tokenizer {
 public:
  explicit SentencePiece(SentencePieceModel model);

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::unique_ptr<Detokenizer> start_decoding() const override;

  bool has(TokenId id) const override { return vocabulary_.has(id); }
  std::string_view bytes_of(TokenId id) const override { return vocabulary_.at(id, "decode").bytes; }
  std::string_view token_of(TokenId id) const override { return vocabulary_.at(id, "token_of").spelling; }
  std::optional<TokenId> id_of(std::string_view token) const override { return vocabulary_.find(token); }
  std::int64_t vocab_size() const override { return vocabulary_.size(); }
  bool is_special(TokenId id) const override {
    return vocabulary_.is_special(id) ||
           (id >= 0 && id < processor_->GetPieceSize() && processor_->IsControl(id));
  }
  std::optional<TokenId> bos_token_id() const override { return bos_; }
  std::optional<TokenId> eos_token_id() const override { return eos_; }
  std::optional<TokenId> pad_token_id() const override { return pad_; }
  std::optional<TokenId> unk_token_id() const override { return unk_; }
  std::uint64_t fingerprint() const override;
  std::vector<TokenizerFile> files() const override;

 private:
  class Decoder;

  void add_pieces();
  std::optional<TokenId> id_of(const std::optional<std::string>& token, std::string_view key) const;
  std::vector<TokenId> ids_of(const std::vector<std::string>& tokens, std::string_view key) const;
  void encode_stretch(std::string_view text, std::vector<TokenId>& out) const;

  SentencePieceModel model_;
  SentencePieceSettings settings_;
  std::unique_ptr<const SentencePieceProcessor> processor_;
  PlainVocabulary vocabulary_;
  AddedTokenFinder finder_;
  std::optional<TokenId> bos_, eos_, pad_, unk_;
  std::vector<TokenId> prefix_, suffix_;
};

SentencePiece::SentencePiece(SentencePieceModel model)
    : model_(std::move(model)),
      settings_(read_sentencepiece_settings(model_.model, model_.source)),
      processor_(make_processor(model_.model, model_.source)) {
  if (settings_.treat_whitespace_as_suffix)
    fail<UnsupportedError>(model_.source, "has treat_whitespace_as_suffix, which libgpt does not support");
  if (settings_.has_denormalizer)
    fail<UnsupportedError>(model_.source, "has a denormalizer_spec, which libgpt does not support");
  if (model_.clean_up_tokenization_spaces && !settings_.is_unigram)
    fail<UnsupportedError>(model_.source,
                           "is not unigram: clean_up_tokenization_spaces is not supported, since it would be "
                           "lost on the way through transformers");
  add_pieces();
  for (AddedToken& token : model_.added_tokens)
    token.normalized = false;  // the pieces are what is normalized
  vocabulary_.add(model_.added_tokens, model_.source, finder_);
  for (const AddedToken& token : model_.added_tokens) vocabulary_.set_bytes(*token.id, token.content);
  bos_ = id_of(model_.bos_token, "bos_token");
  eos_ = id_of(model_.eos_token, "eos_token");
  pad_ = id_of(model_.pad_token, "pad_token");
  unk_ = id_of(model_.unk_token, "unk_token");
  prefix_ = ids_of(model_.prefix_tokens, "prefix_tokens");
  suffix_ = ids_of(model_.suffix_tokens, "suffix_tokens");
}

void SentencePiece::add_pieces() {
  if (processor_->GetPieceSize() > PlainVocabulary::kMaxId)
    fail<FormatError>(model_.source, "has ", processor_->GetPieceSize(), " pieces, expected at most ",
                      PlainVocabulary::kMaxId);
  for (int id = 0; id < processor_->GetPieceSize(); ++id) {
    const std::string& piece = processor_->IdToPiece(id);
    vocabulary_.append(piece, processor_->IsControl(id) ? std::string()
                              : processor_->IsByte(id)  ? byte_of(piece)
                                                        : with_spaces(piece));
  }
}

std::optional<TokenId> SentencePiece::id_of(const std::optional<std::string>& token,
                                            std::string_view key) const {
  if (!token) return std::nullopt;
  const auto id = vocabulary_.find(*token);
  if (!id) fail<FormatError>(key, quote(*token), " is neither in the vocabulary nor an added token");
  return id;
}

std::vector<TokenId> SentencePiece::ids_of(const std::vector<std::string>& tokens,
                                           std::string_view key) const {
  std::vector<TokenId> ids;
  for (const std::string& token : tokens) ids.push_back(*id_of(token, key));
  return ids;
}

void SentencePiece::encode_stretch(std::string_view text, std::vector<TokenId>& out) const {
  constexpr std::size_t kMost = std::size_t{1}
                                << 28;  // libsentencepiece counts in int, and normalization lengthens
  if (text.size() > kMost)
    fail<ArgumentError>("encode", "the text has ", text.size(), " bytes in one stretch, expected at most ",
                        kMost, " for a sentencepiece model");
  std::vector<int> ids;
  const auto status = processor_->Encode(text, &ids);
  if (!status.ok())
    fail<ArgumentError>("encode", "libsentencepiece cannot encode the text: ", status.message());
  out.insert(out.end(), ids.begin(), ids.end());
}

std::vector<TokenId> SentencePiece::encode(std::string_view text, const EncodeOptions& options) const {
  return with_memory_errors("encode", [&] {
    std::vector<TokenId> ids;
    if (options.add_special_tokens) ids = prefix_;
    for (const auto& part : finder_.split(text, options.parse_special_tokens)) {
      if (part.id >= 0)
        ids.push_back(part.id);
      else
        encode_stretch(part.text, ids);
    }
    if (options.add_special_tokens && options.add_suffix_tokens)
      ids.insert(ids.end(), suffix_.begin(), suffix_.end());
    return ids;
  });
}

// Follows SentencePieceProcessor::Decode in its treatment of the space at the start of a stretch.
class SentencePiece::Decoder final : public Detokenizer {
 public:
  explicit Decoder(const SentencePiece& tokenizer) : tokenizer_(tokenizer) {}

  void push(TokenId id, std::string& out) override try {
    if (!tokenizer_.model_.clean_up_tokenization_spaces) return join(id, out);
    std::string text;
    join(id, text);
    cleaner_.push(text, out);
  } catch (...) {
    rethrow_with_memory_errors("decode");
  }
  void flush(std::string& out) override try {
    cleaner_.flush(out);
    begins_ = true;
  } catch (...) {
    rethrow_with_memory_errors("decode");
  }

 private:
  void join(TokenId id, std::string& out) {
    const PlainVocabulary::Token& token = tokenizer_.vocabulary_.at(id, "decode");
    std::string_view bytes = token.bytes;
    if (token.added) {
      out += bytes;
      begins_ = id != tokenizer_.processor_->unk_id();  // which stands inside stretches, too
      return;
    }
    const SentencePieceSettings& settings = tokenizer_.settings_;
    const bool drops = settings.add_dummy_prefix || settings.remove_extra_whitespaces;
    if (begins_ && drops && token.spelling.starts_with(kSpace) && !bytes.empty()) {
      bytes.remove_prefix(1);
      begins_ = settings.remove_extra_whitespaces;  // more of them go, too
    }
    if (!bytes.empty()) begins_ = false;
    out += bytes;
  }

  const SentencePiece& tokenizer_;
  SpaceCleaner cleaner_;
  bool begins_ = true;
};

std::unique_ptr<Detokenizer> SentencePiece::start_decoding() const try {
  return std::make_unique<Decoder>(*this);
} catch (...) {
  rethrow_with_memory_errors("decode");
}

std::uint64_t SentencePiece::fingerprint() const {
  Fingerprint all;
  all.add("sentencepiece").add(model_.model);
  add_to(all, model_.added_tokens);
  all.add(prefix_.size());
  for (const TokenId id : prefix_) all.add(id);
  for (const TokenId id : suffix_) all.add(id);
  return all.value();
}

std::vector<TokenizerFile> SentencePiece::files() const try {
  std::vector<TokenizerFile> files;
  files.push_back({model_.name, model_.model});
  const auto is_config = [](const auto& file) { return file.first == "tokenizer_config.json"; };
  if (std::none_of(model_.files.begin(), model_.files.end(), is_config)) {
    const auto or_null = [](const auto& token) { return token ? json::Value(*token) : json::Value(nullptr); };
    json::Value::Object decoder;
    for (const AddedToken& token : model_.added_tokens)
      json::append(
          decoder, concat(*token.id),
          json::object_of("content", token.content, "single_word", token.single_word, "lstrip", token.lstrip,
                          "rstrip", token.rstrip, "normalized", false, "special", token.special));
    auto root = json::object_of("tokenizer_class", "LlamaTokenizer", "add_bos_token", !prefix_.empty(),
                                "add_eos_token", !suffix_.empty());
    json::append(root, "clean_up_tokenization_spaces", model_.clean_up_tokenization_spaces);
    json::append(root, "bos_token", or_null(model_.bos_token), "eos_token", or_null(model_.eos_token),
                 "unk_token", or_null(model_.unk_token), "pad_token", or_null(model_.pad_token));
    json::append(root, "added_tokens_decoder", std::move(decoder));
    files.push_back({"tokenizer_config.json", json::dump(root, 2) + "\n"});
  }
  for (const auto& [name, text] : model_.files) files.push_back({name, text});
  return files;
} catch (...) {
  rethrow_with_memory_errors("tokenizer");
}

// What a class says of tokens that no file names, by key.
struct ClassDefaults {
  std::optional<std::string> bos = {}, eos = {}, unk = {}, pad = {};
  bool add_bos = false, add_eos = false;
  std::int64_t extra_ids = 0;
};

ClassDefaults defaults_of(const JsonObject& config, const SentencePieceProcessor& processor) {
  const auto name = config.string("tokenizer_class");
  if (!name) {
    const auto piece = [&](int id) {
      return id >= 0 ? std::optional(processor.IdToPiece(id)) : std::nullopt;
    };
    return {.bos = piece(processor.bos_id()),
            .eos = piece(processor.eos_id()),
            .unk = piece(processor.unk_id()),
            .pad = piece(processor.pad_id())};
  }
  if (*name == "LlamaTokenizer" || *name == "LlamaTokenizerFast")
    return {.bos = "<s>", .eos = "</s>", .unk = "<unk>", .add_bos = true};
  if (*name == "T5Tokenizer" || *name == "T5TokenizerFast")
    return {.eos = "</s>", .unk = "<unk>", .pad = "<pad>", .add_eos = true, .extra_ids = 100};
  config.fail_unsupported("tokenizer_class");
}

// T5's sentinels: the first of them has the highest id.
void add_sentinels(SideFiles& side_files, const JsonObject& config, std::int64_t count, int pieces,
                   std::string_view source) {
  if (const json::Value* value = config.find("extra_ids")) {
    const auto* integer = value->get_if<std::int64_t>();
    if (integer == nullptr || *integer < 0 || *integer > 10000)
      config.fail_type("extra_ids", "an integer from 0 to 10000");
    count = *integer;
  }
  const auto last = static_cast<TokenId>(pieces + count - 1);
  for (TokenId i = 0; i < static_cast<TokenId>(count); ++i)
    side_files.add({.content = concat("<extra_id_", i, ">"), .id = last - i, .lstrip = true, .rstrip = true},
                   source, false);
}

}  // namespace

std::shared_ptr<const Tokenizer> make_sentencepiece(SentencePieceModel model) {
  return with_memory_errors("tokenizer", [&]() -> std::shared_ptr<const Tokenizer> {
    return std::make_shared<SentencePiece>(std::move(model));
  });
}

namespace {

SentencePieceModel read_sentencepiece(const std::filesystem::path& directory,
                                      const std::function<void(std::string_view)>& on_warning) {
  SentencePieceModel model;
  if (!is_there(directory / model.name)) model.name = "spiece.model";
  const std::filesystem::path path = directory / model.name;
  model.source = path.string();
  const MappedFile file(path);  // whose bytes are no text
  const std::span<const std::byte> bytes = file.bytes();
  model.model.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const SentencePieceSettings settings = read_sentencepiece_settings(model.model, model.source);
  const auto processor = make_processor(model.model, model.source);
  SideFiles side_files(directory, {});
  const JsonObject config = side_files.config();
  // These change what a stretch of text becomes.
  if (!config.boolean("legacy").value_or(true)) config.fail_unsupported("legacy");
  if (!config.boolean("add_prefix_space").value_or(true)) config.fail_unsupported("add_prefix_space");
  if (const auto kwargs = config.object("sp_model_kwargs"); kwargs && !kwargs->members().empty())
    config.fail_unsupported("sp_model_kwargs");
  if (settings.is_unigram)
    model.clean_up_tokenization_spaces = config.boolean("clean_up_tokenization_spaces").value_or(false);
  else
    warn_of_cleaning(config, "a sentencepiece model that is not unigram", on_warning);
  const ClassDefaults defaults = defaults_of(config, *processor);
  if (defaults.extra_ids > 0)
    add_sentinels(side_files, config, defaults.extra_ids, processor->GetPieceSize(), model.source);
  const auto named = [&](std::string_view key, const std::optional<std::string>& otherwise) {
    if (side_files.mentions(key)) return side_files.named(key);
    if (otherwise) side_files.add({.content = *otherwise}, model.source, false);
    return otherwise;
  };
  model.bos_token = named("bos_token", defaults.bos);
  model.eos_token = named("eos_token", defaults.eos);
  model.unk_token = named("unk_token", defaults.unk);
  model.pad_token = named("pad_token", defaults.pad);
  const auto around = [&](std::string_view key, bool otherwise, const std::optional<std::string>& token,
                          std::string_view name, std::vector<std::string>& tokens) {
    if (!config.boolean(key).value_or(otherwise)) return;
    if (!token) fail<FormatError>(config.source(), key, " is true, but there is no ", name);
    tokens.push_back(*token);
  };
  around("add_bos_token", defaults.add_bos, model.bos_token, "bos_token", model.prefix_tokens);
  around("add_eos_token", defaults.add_eos, model.eos_token, "eos_token", model.suffix_tokens);
  model.added_tokens = side_files.added_tokens();
  model.files = side_files.files();
  return model;
}

}  // namespace

std::shared_ptr<const Tokenizer> load_sentencepiece(const std::filesystem::path& directory,
                                                    const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(),
                            [&] { return make_sentencepiece(read_sentencepiece(directory, on_warning)); });
}

}  // namespace gpt
