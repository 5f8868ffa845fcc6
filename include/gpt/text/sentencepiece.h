// Sentencepiece models: tokenizer.model and spiece.model.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/text/tokenizer.h"

namespace gpt {

/// What a tokenizer over a sentencepiece model is made of.
struct SentencePieceModel {
  std::string model = {};                // the bytes of the file
  std::string name = "tokenizer.model";  // under which files() gives it
  std::vector<AddedToken> added_tokens = {};

  /// Added tokens by their use; each must be a piece of the model or in added_tokens.
  std::optional<std::string> bos_token = {}, eos_token = {}, unk_token = {}, pad_token = {};
  /// Put before and after the text by EncodeOptions::add_special_tokens.
  std::vector<std::string> prefix_tokens = {}, suffix_tokens = {};
  bool clean_up_tokenization_spaces = false;  // decode tidies up the whole text, too; of a unigram model

  std::string source = "tokenizer.model";  // of `model`, for messages
  /// Files that files() gives unchanged, by name and content.
  std::vector<std::pair<std::string, std::string>> files = {};
};

/// A tokenizer that segments as libsentencepiece does (Kudo and Richardson 2018; unigram, BPE, word and character models). The
/// text is cut at added tokens, and each stretch between them is encoded for itself, which gives it the space before it
/// that the model asks for (transformers' slow tokenizers with legacy = True).
///
/// Where libsentencepiece finds no memory, to read a model or to encode a text, it ends the process itself.
/// Decoding joins the pieces with U+2581 as a space, and drops the space that a stretch got as libsentencepiece does.
/// Added tokens, bos, eos, unk and pad are written as they are, other control pieces not at all; byte pieces are
/// bytes. decode(encode(text)) is the text after the model's normalization, as far as it has no unknown pieces;
/// ill-formed UTF-8 becomes U+FFFD in it. bytes_of has the space. last_cut knows no place. With clean_up_tokenization_spaces
/// the decoded text loses spaces as in transformers: " ." becomes ".".
///
/// Throws FormatError naming source and token: no sentencepiece model, a token that is not there; UnsupportedError: a
/// model with a denormalizer or with white space as a suffix, clean_up_tokenization_spaces of a model that is not unigram, and
/// in a build without GPT_WITH_SENTENCEPIECE always.
std::shared_ptr<const Tokenizer> make_sentencepiece(SentencePieceModel model);

/// Reads a directory's tokenizer.model, or else spiece.model, and, where they exist, tokenizer_config.json
/// (tokenizer_class, add_bos_token, add_eos_token, extra_ids, clean_up_tokenization_spaces, *_token, added_tokens_decoder),
/// special_tokens_map.json and added_tokens.json. What the files do not say follows from the tokenizer_class:
///   LlamaTokenizer  bos <s> before the text, eos </s>, unk <unk>
///   T5Tokenizer     eos </s> after the text, unk <unk>, pad <pad>, and 100 tokens <extra_id_N> after the pieces
///   none            bos, eos, unk and pad of the model itself; nothing around the text
/// Calls on_warning (when set) for clean_up_tokenization_spaces of a model that is not unigram, which transformers (from 5.7 on)
/// does not apply it to either. Throws IoError, FormatError, UnsupportedError as load_tokenizer.
std::shared_ptr<const Tokenizer> load_sentencepiece(
    const std::filesystem::path& directory,
    const std::function<void(std::string_view message)>& on_warning = {});

}  // namespace gpt
