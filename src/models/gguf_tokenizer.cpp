#include "models/gguf_tokenizer.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/byte_map.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

enum TokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

std::string key_of(std::string_view name) { return concat(kPrefix, name); }

std::vector<std::int64_t> read_types(const GgufFile& file, std::size_t tokens) {
  const std::string key = key_of("token_type");
  auto types = file.get_ints(key).value_or(std::vector<std::int64_t>(tokens, kNormal));
  if (types.size() != tokens)
    fail<FormatError>(file.source(), key, " has ", types.size(), " entries, expected one for each of ",
                      tokens, " tokens");
  for (std::size_t id = 0; id < tokens; ++id)
    if (types[id] < kNormal || types[id] > kUnused)
      fail<UnsupportedError>(file.source(), key, " of token ", id, " is ", types[id], ", expected ",
                             0 + kNormal, " to ", 0 + kUnused);
  return types;
}

void read_tokens(const GgufFile& file, std::vector<std::string> tokens, ByteBpeModel& model) {
  std::vector<std::int64_t> types = read_types(file, tokens.size());
  const bool typed = file.has(key_of("token_type"));
  for (const auto& [name, member] :
       {std::pair("bos", &ByteBpeModel::bos_token), std::pair("eos", &ByteBpeModel::eos_token),
        std::pair("unknown", &ByteBpeModel::unk_token), std::pair("padding", &ByteBpeModel::pad_token)}) {
    const auto id = gguf_token_id(file, name);
    if (!id) continue;
    const auto at = static_cast<std::size_t>(*id);
    if (at >= tokens.size() || types[at] == kUnused)
      fail<FormatError>(file.source(), key_of(name), "_token_id is ", *id, ", which is none of the ",
                        tokens.size(), " tokens");
    if (!typed) types[at] = kControl;  // older files have no types: what these name is special all the same
    model.*member = tokens[at];
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] == kUnused) continue;
    const auto id = static_cast<TokenId>(i);
    if (types[i] != kNormal)
      model.added_tokens.push_back({.content = tokens[i], .id = id, .special = types[i] != kUserDefined});
    model.vocab.emplace_back(std::move(tokens[i]), id);
  }
}

void read_merges(const GgufFile& file, ByteBpeModel& model) {
  const auto merges = file.get_strings(model.merges_source);
  if (!merges) fail<FormatError>(file.source(), model.merges_source, " is missing");
  for (std::size_t i = 0; i < merges->size(); ++i) {
    auto merge = split_merge((*merges)[i]);
    if (!merge)
      fail<FormatError>(file.source(), model.merges_source, ": entry ", i, " is ", quote((*merges)[i]),
                        ", expected two tokens with one space between them");
    model.merges.push_back(*std::move(merge));
  }
}

/// The token that add_bos_token, or add_eos_token, puts beside every text.
std::vector<std::string> added_around(const GgufFile& file, std::string_view name,
                                      const std::optional<std::string>& token) {
  const std::string key = key_of(name);
  if (!file.get_bool(key).value_or(false)) return {};
  if (!token) fail<FormatError>(file.source(), key, " is true, but the file names no such token");
  return {*token};
}

/// Throws UnsupportedError for what GGUF cannot say, or llama.cpp does otherwise.
class Exporter {
 public:
  Exporter(const ByteBpe& tokenizer, const Gpt2Config& config, const std::optional<HfConfig>& generation,
           std::string_view target)
      : tokenizer_(tokenizer),
        model_(tokenizer.model()),
        config_(config),
        generation_(generation),
        target_(target) {}

  void write(GgufMetadata& metadata) {
    check_model();
    set_tokens();
    metadata.set_string(key_of("model"), "gpt2");
    metadata.set_string(key_of("pre"), "gpt-2");
    metadata.set_strings(key_of("tokens"), tokens_);
    metadata.set_int32s(key_of("token_type"), types_);
    metadata.set_strings(key_of("merges"), merges());
    const TokenId eos = eos_id(), bos = bos_id(eos);
    set_id(metadata, "eos", eos);  // first: it may be the bos, too
    set_id(metadata, "bos", bos);
    if (const auto id = tokenizer_.unk_token_id()) set_id(metadata, "unknown", *id);
    if (const auto id = tokenizer_.pad_token_id()) set_id(metadata, "padding", *id);
    set_around(metadata, "add_bos_token", model_.prefix_tokens, bos);
    set_around(metadata, "add_eos_token", model_.suffix_tokens, eos);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail<UnsupportedError>(target_, "cannot hold this tokenizer: ", parts...);
  }

  /// For ids of the model, which are no fault of the tokenizer's.
  template <class... Parts>
  [[noreturn]] void refuse_ids(const Parts&... parts) const {
    fail<UnsupportedError>(target_, "cannot hold this model's tokens: ", parts...);
  }

  void check_model() const {
    if (model_.add_prefix_space) refuse("add_prefix_space is true, which llama.cpp would leave out");
    if (!model_.use_regex) refuse("use_regex is false, but llama.cpp splits text by GPT-2's pattern");
    if (model_.ignore_merges) refuse("ignore_merges is true, which llama.cpp has not for GPT-2");
    try {
      require_merges(model_);  // as reading it does
    } catch (const FormatError& e) {
      refuse(e.what());
    }
    for (int byte = 0; model_.unk_symbol && byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      if (!tokenizer_.id_of(spell_bytes({&c, 1})))
        refuse("byte ", byte, " becomes the unk_token, but llama.cpp would leave it out");
    }
    for (const AddedToken& token : model_.added_tokens)
      if (token.lstrip || token.rstrip || token.single_word)
        refuse("the added token ", quote(token.content), " has ",
               token.lstrip   ? "lstrip"
               : token.rstrip ? "rstrip"
                              : "single_word",
               ", which llama.cpp has not");
  }

  void set_tokens() {
    const std::int64_t size = config_.vocab_size;
    if (tokenizer_.vocab_size() > size)
      refuse("it has ", tokenizer_.vocab_size(), " tokens, the network only vocab_size = ", size);
    tokens_.resize(static_cast<std::size_t>(size));
    types_.resize(tokens_.size(), kUnused);
    const auto set = [&](TokenId id, const std::string& token, std::int32_t type) {
      tokens_[static_cast<std::size_t>(id)] = token;
      types_[static_cast<std::size_t>(id)] = type;
    };
    for (const auto& [token, id] : model_.vocab) set(id, token, kNormal);
    for (const AddedToken& token : model_.added_tokens)
      set(*token.id, token.content, token.special ? kControl : kUserDefined);
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kUnused) continue;
      tokens_[id] = concat("[PAD", id, "]");  // llama.cpp wants all tokens to differ
      while (tokenizer_.id_of(tokens_[id])) tokens_[id] += ']';
    }
  }

  std::vector<std::string> merges() const {
    std::vector<std::string> merges;
    for (const auto& [left, right] : model_.merges) {
      merges.push_back(concat(left, " ", right));
      if (!split_merge(merges.back())) refuse("the merge ", quote(merges.back()), " has further spaces");
    }
    return merges;
  }

  bool has(std::int64_t id) const noexcept { return id >= 0 && id < config_.vocab_size; }

  /// Where generation finds the ids that end a text.
  bool generation_ends() const { return generation_ && generation_->has("eos_token_id"); }
  std::string_view end_source() const {
    return generation_ends() ? "generation_config.json: " : "config.json: ";
  }

  /// The one id that ends the model's texts, which one outside the vocabulary does not. Never the tokenizer's instead: it would
  /// end those that the model goes on with.
  TokenId eos_id() const {
    std::vector<std::int64_t> ids(config_.eos_token_id.begin(), config_.eos_token_id.end());
    if (generation_ends())
      ids = generation_->get_int_list("eos_token_id").value_or(std::vector<std::int64_t>());
    std::set<std::int64_t> ends;  // each once
    for (const std::int64_t id : ids)
      if (has(id)) ends.insert(id);
    if (ends.size() > 1)
      refuse_ids(end_source(), "eos_token_id are ", ends.size(), " tokens, and llama.cpp stops at one");
    if (!ends.empty()) return static_cast<TokenId>(*ends.begin());
    const auto own = tokenizer_.eos_token_id();
    refuse_ids(
        end_source(), "there is no eos_token_id in the vocabulary [0, ", config_.vocab_size,
        "), and llama.cpp would take token 11 for it",
        own ? concat("; align_special_tokens (gpt-convert --tokenizer) makes it the tokenizer's, ", *own)
            : std::string());
  }

  /// The model's, too. It ends no text, so that where there is none in the vocabulary (transformers' default is 50256), another
  /// will do, which llama.cpp must be given: it would take token 11.
  TokenId bos_id(TokenId eos) const {
    const auto bos = config_.bos_token_id;
    return bos && has(*bos) ? *bos : tokenizer_.bos_token_id().value_or(eos);
  }

  void set_id(GgufMetadata& metadata, std::string_view name, TokenId id) const {
    if (!has(id) || types_[static_cast<std::size_t>(id)] == kUnused)  // reading it would be refused
      refuse_ids(name == "eos" ? end_source() : "config.json: ", name, "_token_id ", id,
                 " is none of the tokenizer's tokens");
    metadata.set_uint32(concat(key_of(name), "_token_id"), static_cast<std::uint32_t>(id));
  }

  /// `id`: the token that llama.cpp puts there.
  void set_around(GgufMetadata& metadata, std::string_view key, const std::vector<std::string>& tokens,
                  TokenId id) const {
    if (!tokens.empty() && (tokens.size() > 1 || tokenizer_.id_of(tokens.front()) != id))
      refuse(quote(tokens.front()), " and perhaps more stand beside every text, expected token ", id,
             " alone, which llama.cpp would put there");
    metadata.set_bool(key_of(key), !tokens.empty());
  }

  const ByteBpe& tokenizer_;
  ByteBpeModel model_;
  const Gpt2Config& config_;
  const std::optional<HfConfig>& generation_;
  std::string_view target_;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
};

}  // namespace

std::optional<TokenId> gguf_token_id(const GgufFile& file, std::string_view name) {
  const std::string key = concat(key_of(name), "_token_id");
  const auto id = file.get_unsigned(key);
  if (id && *id > 0x7fffffff) fail<FormatError>(file.source(), key, " is ", *id, ", expected a token id");
  return id ? std::optional(static_cast<TokenId>(*id)) : std::nullopt;
}

std::shared_ptr<const Tokenizer> read_gguf_tokenizer(
    const GgufFile& file, const std::function<void(std::string_view)>& on_warning) {
  const auto kind = file.get_string(key_of("model"));
  if (!kind || *kind == "none" || *kind == "no_vocab") return nullptr;
  if (*kind != "gpt2")
    fail<UnsupportedError>(file.source(), key_of("model"), " is ", quote(*kind), ", expected \"gpt2\"");
  const auto pre = file.get_string(key_of("pre"));
  if (pre && *pre != "gpt-2")
    fail<UnsupportedError>(file.source(), key_of("pre"), " is ", quote(*pre), ", expected \"gpt-2\"");
  if (!pre && on_warning)
    on_warning(concat("[", file.source(), "] ", key_of("pre"), " is missing and taken to be \"gpt-2\""));
  ByteBpeModel model;
  model.vocab_source = key_of("tokens");
  model.merges_source = key_of("merges");
  auto tokens = file.get_strings(model.vocab_source);
  if (!tokens) fail<FormatError>(file.source(), model.vocab_source, " is missing");
  read_tokens(file, *std::move(tokens), model);
  read_merges(file, model);
  model.prefix_tokens = added_around(file, "add_bos_token", model.bos_token);
  model.suffix_tokens = added_around(file, "add_eos_token", model.eos_token);
  try {
    require_merges(model);
    return std::make_shared<ByteBpe>(std::move(model));
  } catch (const FormatError& e) {
    fail<FormatError>(file.source(), e.what());
  }
}

void write_gguf_tokenizer(const Model& model, std::string_view target, GgufMetadata& metadata) {
  if (!model.has_tokenizer()) {
    metadata.set_string(key_of("model"), "none");
    return;
  }
  const auto* const bpe = dynamic_cast<const ByteBpe*>(&model.tokenizer());
  if (bpe == nullptr)
    fail<UnsupportedError>(target, "can hold a byte-level BPE tokenizer only, as llama.cpp has it for gpt2");
  Exporter(*bpe, model.config(), model.generation_config(), target).write(metadata);
}

}  // namespace gpt
