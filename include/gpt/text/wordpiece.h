// BERT's tokenizer, WordPiece, which Chinese GPT-2 checkpoints use.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// What a WordPiece tokenizer is made of, under the names of transformers' BertTokenizer.
struct WordPieceModel {
  /// The tokens in the order of their ids. Those that continue a word begin with "##". Of equal ones the last counts.
  std::vector<std::string> vocab = {};
  std::vector<AddedToken> added_tokens = {};

  bool do_lower_case = true;
  bool tokenize_chinese_chars = true;         // every CJK ideograph is a word of its own
  std::optional<bool> strip_accents = {};     // unset: as do_lower_case
  bool clean_up_tokenization_spaces = false;  // decode tidies up the whole text, too

  /// Stands for a word that the vocabulary cannot express; must be in it.
  std::string unk_token = "[UNK]";
  /// Tokens by their use; each must be in the vocabulary or in added_tokens.
  std::optional<std::string> bos_token = {}, eos_token = {}, pad_token = {};
  /// Put before and after the text by EncodeOptions::add_special_tokens.
  std::vector<std::string> prefix_tokens = {}, suffix_tokens = {};

  std::string vocab_source = "vocab.txt";  // for messages
  /// Files that files() gives unchanged, by name and content.
  std::vector<std::pair<std::string, std::string>> files = {};
};

/// WordPiece (Schuster and Nakajima 2012; Devlin et al. 2018) as BertTokenizerFast applies it. The text is cut at added
/// tokens. In what lies between, U+0000, U+FFFD, ill-formed bytes and control characters (category C) go; white space
/// becomes a space; ideographs get spaces around them; accents are stripped (NFD, then without category Mn); letters become
/// lower case, one by one. White space and punctuation (category P, and ASCII's symbols), each a word of its own, cut
/// it into words. A word is taken apart from the left, always the longest token that fits, "##" before those
/// after the first; where none fits, or the word has more than 100 characters, all of it is the unk token. So encoding is
/// not lossless.
///
/// Decoding puts a space before every token but the first and those that continue a word, and tidies up as the tokenizers
/// library does in each token (" ." becomes "."), with clean_up_tokenization_spaces across tokens as well. bytes_of has
/// the space.
class WordPiece final : public Tokenizer {
 public:
  /// Throws FormatError naming the token: an unk token that the vocabulary lacks, equal ids, a named token that is not there,
  /// text that is not UTF-8; UnsupportedError for an added token that is normalized and not special.
  explicit WordPiece(WordPieceModel model);
  ~WordPiece() override;

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const override;
  /// The last white space after something else, away from added tokens.
  std::size_t last_cut(std::string_view text) const override;
  std::unique_ptr<Detokenizer> start_decoding() const override;

  bool has(TokenId id) const override;
  std::string_view bytes_of(TokenId id) const override;
  std::string_view token_of(TokenId id) const override;
  std::optional<TokenId> id_of(std::string_view token) const override;
  std::int64_t vocab_size() const override;
  bool is_special(TokenId id) const override;
  std::optional<TokenId> bos_token_id() const override;
  std::optional<TokenId> eos_token_id() const override;
  std::optional<TokenId> pad_token_id() const override;
  std::optional<TokenId> unk_token_id() const override;
  std::uint64_t fingerprint() const override;

  /// Gives vocab.txt and tokenizer_config.json (the one it was read with, else a new one), and the other files it was
  /// read with.
  std::vector<TokenizerFile> files() const override;

 private:
  class Impl;
  std::unique_ptr<const Impl> impl_;
};

/// Reads the text of a vocab.txt: a token a line (LF or CRLF). Throws FormatError naming the source: no token at all.
WordPieceModel parse_wordpiece_vocab(std::string_view text, std::string_view source = "vocab.txt");

/// Reads a directory's vocab.txt and, where they exist, tokenizer_config.json (do_lower_case, tokenize_chinese_chars,
/// strip_accents, clean_up_tokenization_spaces, do_basic_tokenize, tokenizer_class, *_token, added_tokens_decoder),
/// special_tokens_map.json and added_tokens.json. As in BertTokenizer, [UNK], [SEP], [PAD], [CLS] and [MASK] are special
/// unless the files name others, and [CLS] and [SEP] stand around the text. Throws IoError, FormatError, UnsupportedError
/// as load_tokenizer.
std::shared_ptr<const WordPiece> load_wordpiece(const std::filesystem::path& directory);

}  // namespace gpt
