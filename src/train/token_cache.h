// Tokens of a text, kept in a file.
//
// All numbers are little-endian:
//   offset  bytes
//        0      8  "gpttoken"
//        8      4  version of this format, 1
//       12      4  bytes per token: 2 when the vocabulary has at most 65536 tokens, else 4
//       16      8  fingerprint of the text
//       24      8  fingerprint of the tokenizer and the options of encoding
//       32      …  the tokens, then zeros up to a multiple of 8
//               8  number of tokens
//               8  fingerprint of the tokens
// The last two follow the tokens so that the file is written in one go. There is no version but this one: a file of another
// one is made again, as a damaged one is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/token.h"
#include "train/token_store.h"

namespace gpt {

/// What the tokens of a cache were made of.
struct TokenCacheKey {
  std::uint64_t text = 0;
  std::uint64_t encoding = 0;
};

/// Where the tokens of a text are kept: one file for each text and encoding, so that neither a changed text leaves its old tokens
/// behind nor two tokenizers take the file from each other.
std::filesystem::path cache_path(const std::filesystem::path& directory, const std::filesystem::path& text,
                                 std::uint64_t encoding, std::string_view extension);

/// None where there is nothing to read: writing it says what is in the way.
std::optional<MappedFile> open_cache(const std::filesystem::path& path);

/// The tokens of a cache file, mapped into memory after all of them were checked; null when there is no such file, or
/// it is damaged or was made of something else.
std::shared_ptr<const TokenStore> read_token_cache(const std::filesystem::path& path,
                                                   const TokenCacheKey& key);

/// Writes a cache file. Every failure throws IoError naming the file and leaves what was there.
class TokenCacheWriter {
 public:
  TokenCacheWriter(const std::filesystem::path& path, const TokenCacheKey& key, std::int64_t vocab_size);

  /// Tokens of the vocabulary, the next of the text.
  void append(std::span<const TokenId> tokens);
  /// Puts the file in place. The last call.
  void commit();

 private:
  AtomicFile file_;
  bool narrow_;
  std::vector<std::uint16_t> narrowed_;
  std::uint64_t count_ = 0;
  Fingerprint fingerprint_;
};

}  // namespace gpt
