// The tokenizer as everything else in the library sees it: text to token ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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
  /// With add_special_tokens: those behind the text, too. Off where the text is to be continued.
  bool add_suffix_tokens = true;
};

struct DecodeOptions {
  bool skip_special_tokens = false;
};

/// A token that is found in the text before anything else looks at it.
struct AddedToken {
  std::string content;
  std::optional<TokenId> id = {};  // unset: that of the same token in the vocabulary, else the next free one
  bool special = true;
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // looked for after those that are not, in the text between them
  std::string source = {};   // where it comes from, for messages; empty: from where the vocabulary does
};

/// A file of a tokenizer: "vocab.json" and its text.
struct TokenizerFile {
  std::string name;
  std::string text;
};

/// Makes text of tokens as they come, for a tokenizer whose tokens stand for other text where a text begins, or beside
/// other tokens. The tokenizer must outlive it.
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;

  /// Appends to `out` the bytes that became certain with this token. Throws as Tokenizer::decode; nothing has changed then.
  virtual void push(TokenId id, std::string& out) = 0;

  /// Appends what was held back. The object is ready for another text.
  virtual void flush(std::string& out) = 0;
};

/// Text to token ids and back. Immutable: shared between threads without locks.
class Tokenizer {
 public:
  Tokenizer();
  virtual ~Tokenizer() = default;

  /// The ids of a text of any bytes. Throws ArgumentError when the vocabulary cannot express the text.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;

  /// The ids of a text that is to be continued: of the template's tokens those before it, unless it begins with them
  /// itself, and none behind it. Throws as encode.
  std::vector<TokenId> encode_prompt(std::string_view text, bool parse_special_tokens = true) const;

  /// The last place in `text` at which it can be cut, however it goes on: for every text that begins with `text`, the
  /// ids of the bytes before the place followed by those of the bytes from there on are the ids of the whole, under
  /// the same options but without add_special_tokens. Long texts can so be encoded in parts. 0 when no such place is
  /// known, as for every text of a tokenizer that does not override this.
  virtual std::size_t last_cut(std::string_view text) const;

  /// The ids of many texts, in their order, each as encode() gives them; the texts are divided among threads. Throws what
  /// encode throws for the first text that it cannot take.
  std::vector<std::vector<TokenId>> encode_batch(std::span<const std::string_view> texts,
                                                 const EncodeOptions& options = {}) const;
  std::vector<std::vector<TokenId>> encode_batch(std::span<const std::string> texts,
                                                 const EncodeOptions& options = {}) const;

  /// The text of the tokens: not always valid UTF-8 (replace_invalid_utf8 makes it so). Their bytes joined, unless
  /// start_decoding says otherwise. Throws ArgumentError naming an id that the vocabulary does not have.
  std::string decode(std::span<const TokenId> ids, const DecodeOptions& options = {}) const;

  /// The texts of many rows of ids, as encode_batch.
  std::vector<std::string> decode_batch(std::span<const std::vector<TokenId>> rows,
                                        const DecodeOptions& options = {}) const;

  /// What makes the text of tokens for decode and StreamDecoder; null where that is no more than joining their bytes.
  virtual std::unique_ptr<Detokenizer> start_decoding() const;

  /// True for the ids that bytes_of takes.
  virtual bool has(TokenId id) const;

  /// The bytes that one token stands for inside a text. Throws as decode.
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

  /// Another number for every object that is made in a process, but the same for copies of one.
  std::uint64_t instance() const noexcept { return instance_; }

  /// The files from which transformers (and load_tokenizer) make the same tokenizer, names without a directory. Throws FormatError
  /// naming the token where load_tokenizer would refuse them: for a byte-level BPE without merges that has a token of two bytes.
  virtual std::vector<TokenizerFile> files() const = 0;

  /// Writes them into an existing directory, all or none; AtomicFiles says what a kill meanwhile leaves. What another tokenizer
  /// left there would change this one, or be read in its place: of tokenizer.json, vocab.json, merges.txt, vocab.txt,
  /// tokenizer.model, spiece.model, tokenizer_config.json, special_tokens_map.json and added_tokens.json, those that are not
  /// among files() are removed, and no other file. Throws IoError naming the file, and as files(), with nothing written.
  void save(const std::filesystem::path& directory) const;

 private:
  std::uint64_t instance_;
};

/// True when the directory holds tokenizer.json, vocab.json, merges.txt, vocab.txt, tokenizer.model or spiece.model:
/// something for load_tokenizer to read. Throws IoError when the system refuses to say.
bool has_tokenizer(const std::filesystem::path& directory);

/// Reads the tokenizer of a Hugging Face checkpoint, from the first of these that is there:
///   tokenizer.json             a byte-level BPE; it alone says everything. One that holds a WordPiece model, a Unigram
///                              model or a BPE with byte_fallback is passed over where the file beside it holds the same
///                              model: vocab.txt for the first, tokenizer.model or spiece.model for the others
///   vocab.json and merges.txt  a byte-level BPE as GPT-2's
///   vocab.txt                  WordPiece, see gpt/text/wordpiece.h
///   tokenizer.model, spiece.model   sentencepiece, see gpt/text/sentencepiece.h
/// Beside them these are honoured:
///   tokenizer_config.json    added_tokens_decoder, *_token, and the keys of the kind: add_prefix_space, add_bos_token and
///                            add_eos_token for the byte-level BPE, those that the two headers name for the others
///   special_tokens_map.json  *_token, additional_special_tokens
///   added_tokens.json        further tokens
/// Where nothing names them, bos, eos and unk of a byte-level BPE are "<|endoftext|>" if the vocabulary has it.
/// Calls on_warning (when set) for clean_up_tokenization_spaces of a byte-level BPE, or of a sentencepiece model that is not
/// unigram: it has no effect, since the spaces are the text's own. As in transformers from 5.7 on; those before took spaces out
/// of decoded text, and 4 wrote the key unasked.
/// A byte-level BPE without merges is refused where merges must have been lost: where a token of two bytes, which are tokens, is
/// neither an added token nor one of the *_token, and ignore_merges is not set.
/// Throws IoError when the directory has no tokenizer or a file cannot be read, FormatError naming file and
/// key or line, UnsupportedError naming what would change the result and is not supported.
std::shared_ptr<const Tokenizer> load_tokenizer(
    const std::filesystem::path& directory,
    const std::function<void(std::string_view message)>& on_warning = {});

}  // namespace gpt
