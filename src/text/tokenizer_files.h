// What the readers and writers of tokenizer files share.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/token.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/wordpiece.h"
#include "text/json_object.h"

namespace gpt {

/// The tokens and ids of a JSON object. Throws FormatError naming the token.
std::vector<std::pair<std::string, TokenId>> to_vocab(const json::Value::Object& object,
                                                      std::string_view source);

/// The two tokens of "a b", each not empty; nothing for any other text.
std::optional<std::pair<std::string, std::string>> split_merge(std::string_view line);

/// Throws FormatError naming merges_source where nothing merges, but there is a token of two bytes that are tokens, such as the
/// first of all merges makes: merges are lost, and every text would be single bytes. A vocabulary without one never had a merge
/// that a text can meet. Added tokens and those with a use need no merge. Adds to `*compared` how many tokens it compared, n log n
/// for n tokens and added tokens.
void require_merges(const ByteBpeModel& model, std::size_t* compared = nullptr);

/// The content and flags of {"content": ..., "lstrip": ..., ...}; missing flags are false.
AddedToken to_added_token(const JsonObject& object);

/// Applies tokenizer_config.json, special_tokens_map.json and added_tokens.json of the directory, where they
/// exist, to a model read from its other files, and keeps their text for save. Warns as load_tokenizer.
void apply_side_files(ByteBpeModel& model, const std::filesystem::path& directory,
                      const std::function<void(std::string_view)>& on_warning);

/// Calls on_warning (when set) where tokenizer_config.json has clean_up_tokenization_spaces for a tokenizer, called `kind`, that
/// transformers does not apply it to. Throws UnsupportedError for the key that makes it do so.
void warn_of_cleaning(const JsonObject& config, std::string_view kind,
                      const std::function<void(std::string_view)>& on_warning);

/// What load_wordpiece makes a tokenizer of.
WordPieceModel read_wordpiece(const std::filesystem::path& directory);

/// Writes the files of a tokenizer, or of none, into a directory, where those of another, which would change it or be read in its
/// place, are removed.
void add_tokenizer_files(std::span<const TokenizerFile> files, const std::filesystem::path& directory,
                         AtomicFiles& written);

}  // namespace gpt
