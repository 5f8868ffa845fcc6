// The tokenizer as everything else in the library sees it: text to token ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

struct EncodeOptions {
  /// Every occurrence of a special token in the text becomes its id; false takes it for ordinary text
  /// (transformers' split_special_tokens). Added tokens that are not special are always recognized.
  bool parse_special_tokens = true;
  /// Put the tokens around the text that the checkpoint's template demands. GPT-2's has none.
  bool add_special_tokens = true;
};

struct DecodeOptions {
  bool skip_special_tokens = false;
};

/// A file of a tokenizer: "vocab.json" and its text.
struct TokenizerFile {
  std::string name;
  std::string text;
};

/// Text to token ids and back. Immutable: shared between threads without locks.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of a text of any bytes. Throws ArgumentError when the vocabulary cannot express the text.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;

  /// The last place in `text` at which it can be cut, however it goes on: for every text that begins with `text`, the
  /// ids of the bytes before the place followed by those of the bytes from there on are the ids of the whole, under
  /// the same options but without add_special_tokens. Long texts can so be encoded in parts. 0 when no such place is
  /// known, as for every text of a tokenizer that does not override this.
  virtual std::size_t last_cut(std::string_view text) const;

  /// The bytes of all tokens, joined: not always valid UTF-8 (replace_invalid_utf8 makes it so), and never
  /// tidied up (transformers' clean_up_tokenization_spaces). Throws ArgumentError naming an id that the
  /// vocabulary does not have.
  std::string decode(std::span<const TokenId> ids, const DecodeOptions& options = {}) const;

  /// The bytes that one token stands for. Throws as decode.
  virtual std::string_view bytes_of(TokenId id) const = 0;

  /// The vocabulary's own spelling of a token, for example "\u0120world" for the bytes " world". Throws as
  /// decode.
  virtual std::string_view token_of(TokenId id) const = 0;

  /// The id of a token given in the vocabulary's own spelling.
  virtual std::optional<TokenId> id_of(std::string_view token) const = 0;

  /// One more than the largest id, added tokens included: the rows an embedding needs.
  virtual std::int64_t vocab_size() const = 0;

  /// True for the ids that skip_special_tokens leaves out; false for ids outside the vocabulary.
  virtual bool is_special(TokenId id) const = 0;

  /// The tokens of these names, as the checkpoint's files give them.
  virtual std::optional<TokenId> bos_token_id() const = 0;
  virtual std::optional<TokenId> eos_token_id() const = 0;
  virtual std::optional<TokenId> pad_token_id() const = 0;
  virtual std::optional<TokenId> unk_token_id() const = 0;

  /// A number of everything that encode() depends on: another one means other tokens for some text, or for none. The
  /// same in every run.
  virtual std::uint64_t fingerprint() const = 0;

  /// The files from which transformers (and load_tokenizer) make the same tokenizer, names without a directory.
  virtual std::vector<TokenizerFile> files() const = 0;

  /// Writes them into an existing directory, all or none; AtomicFiles says what a kill meanwhile leaves. Throws IoError naming
  /// the file.
  void save(const std::filesystem::path& directory) const;
};

/// True when the directory holds tokenizer.json, vocab.json or merges.txt: something for load_tokenizer to
/// read. Throws IoError when the system refuses to say.
bool has_tokenizer(const std::filesystem::path& directory);

/// Reads the tokenizer of a Hugging Face checkpoint: tokenizer.json if there is one, as transformers does,
/// since it alone says everything; otherwise vocab.json and merges.txt as GPT-2's. Beside them these are
/// honoured:
///   tokenizer_config.json    added_tokens_decoder, *_token, add_prefix_space, add_bos_token, add_eos_token
///   special_tokens_map.json  *_token, additional_special_tokens
///   added_tokens.json        further tokens
/// Where nothing names them, bos, eos and unk are "<|endoftext|>" if the vocabulary has it.
/// Throws IoError when the directory has no tokenizer or a file cannot be read, FormatError naming file and
/// key or line, UnsupportedError naming what would change the result and is not supported.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& directory);

}  // namespace gpt
