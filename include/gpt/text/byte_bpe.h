// GPT-2's tokenizer: byte-level byte-pair encoding.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// What a byte-level BPE tokenizer is made of. Token strings are in GPT-2's spelling: one character per byte,
/// 33..126, 161..172 and 174..255 as themselves, the other 68 bytes in order as U+0100, U+0101, ...
struct ByteBpeModel {
  /// Tokens and their ids, in any order, holes allowed.
  std::vector<std::pair<std::string, TokenId>> vocab;
  /// The pairs that merge, the earliest first. Of equal pairs the last counts.
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added_tokens;

  /// Stands for bytes that the vocabulary lacks. Unset: encode throws where transformers drops the byte.
  std::optional<std::string> unk_symbol = {};
  bool add_prefix_space = false;  // before every stretch of text that does not begin with a space
  bool use_regex = true;          // split at GPT-2's pattern; false: a stretch of text is one piece
  bool ignore_merges = false;     // a piece that is a token as a whole becomes that token

  /// Added tokens by their use; each must be in the vocabulary or in added_tokens.
  std::optional<std::string> bos_token = {}, eos_token = {}, unk_token = {}, pad_token = {};
  /// Put before and after the text by EncodeOptions::add_special_tokens.
  std::vector<std::string> prefix_tokens = {}, suffix_tokens = {};

  /// Where vocab and merges come from, for messages.
  std::string vocab_source = "vocab", merges_source = "merges";
  /// Files that files() gives unchanged: tokenizer.json and the like, by name and content.
  std::vector<std::pair<std::string, std::string>> files = {};
};

/// Byte-level BPE (Radford et al., "Language models are unsupervised multitask learners", 2019; encoder.py of
/// openai/gpt-2). The text is cut at added tokens, then by the pattern
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// into pieces, whose bytes merge from the earliest pair on, leftmost first. Any bytes are text: a byte
/// outside a well-formed UTF-8 sequence counts as a character that is neither letter, number nor space, and
/// decode(encode(text)) == text unless strips or prefixes were asked for. Time is O(n log n) in the longest
/// piece.
class ByteBpe final : public Tokenizer {
 public:
  /// Throws FormatError naming the token or merge: equal tokens or ids, an id that is negative or above 2^21
  /// - 1, a merge of or into tokens that the vocabulary lacks.
  explicit ByteBpe(ByteBpeModel model);
  ~ByteBpe() override;

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const override;
  /// A place between two characters at which the pattern always cuts, away from added tokens: there is one wherever
  /// ordinary text changes between letters, numbers, white space and the rest. None with use_regex false.
  std::size_t last_cut(std::string_view text) const override;
  /// The ids of bytes taken as one piece: no added tokens, no pattern.
  std::vector<TokenId> encode_piece(std::string_view bytes) const;

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

  /// The parts it is made of, vocab in the order of the ids.
  ByteBpeModel model() const;

  /// Gives tokenizer.json (the one it was read from, else a new one), vocab.json and merges.txt, and the
  /// tokenizer_config.json, special_tokens_map.json and added_tokens.json it was read with. Throws FormatError as Tokenizer::files
  /// says: make a token that no merge leads to an added token.
  std::vector<TokenizerFile> files() const override;

 private:
  class Impl;
  std::unique_ptr<const Impl> impl_;
};

/// Reads a tokenizer.json (the format of the tokenizers library, version 1.0): model BPE; pre-tokenizer and
/// decoder ByteLevel, alone or inside a Sequence; no normalizer; post-processor none, ByteLevel or
/// TemplateProcessing. Throws FormatError naming `source` and the key, UnsupportedError naming anything else
/// that would change the result.
ByteBpeModel parse_tokenizer_json(std::string_view json, std::string_view source = "tokenizer.json");

/// Reads the text of vocab.json (a JSON object: token to id) and of merges.txt (a line "#version: ..." that
/// may be missing, then two tokens with a space between them per line; LF or CRLF). Throws FormatError naming
/// source and key or line.
ByteBpeModel parse_vocab_and_merges(std::string_view vocab, std::string_view merges,
                                    std::string_view vocab_source = "vocab.json",
                                    std::string_view merges_source = "merges.txt");

}  // namespace gpt
