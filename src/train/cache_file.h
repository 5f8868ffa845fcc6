// What is made of a text once and kept in a file.
//
// All numbers are little-endian:
//   offset  bytes
//        0      8  the name of what follows
//        8      4  its version
//       12      4  bytes per id: 2 when the vocabulary has at most 65536 tokens, else 4
//       16      8  fingerprint of the text
//       24      8  fingerprint of the tokenizer and the options of encoding
//       32      …  the body, in words of 8 bytes
//               8  fingerprint of all words before
// A body has its sizes at its end, so that the file is written in one go. There is no version but the present one: a file of
// another one is made again, as a damaged one is.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "core/directory.h"
#include "core/fingerprint.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"

namespace gpt {

static_assert(std::endian::native == std::endian::little, "cache files are little-endian");

constexpr std::size_t kWord = 8;

constexpr std::uint64_t whole_words(std::uint64_t bytes) noexcept {
  return bytes / kWord * kWord + (bytes % kWord != 0 ? kWord : 0);
}

/// Bytes of one id.
constexpr std::uint32_t id_width(std::int64_t vocab_size) noexcept { return vocab_size <= 65536 ? 2 : 4; }

template <class T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

template <class T>
T value_at(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

struct CacheFormat {
  char name[9];  // 8 characters
  std::uint32_t version;
  std::string_view extension;
};

/// What a cache was made of.
struct CacheKey {
  std::uint64_t text = 0;
  std::uint64_t encoding = 0;
};

/// The body of a file, which lives as long as `owner`.
struct CacheBody {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;  // aligned to words, and a number of them
  std::size_t width = 0;             // 2 or 4
};

/// Where it is kept: one file for each text and encoding, so that neither a changed text leaves its old file behind nor two
/// tokenizers take the file from each other. Only processes in which one path has different contents do so.
std::filesystem::path cache_path(const std::filesystem::path& directory, const std::filesystem::path& text,
                                 std::uint64_t encoding, std::string_view extension);

/// The body of a cache file, mapped after all of the file was checked; none when there is no such file, or it is damaged or was
/// made of something else. Throws CancelledError; IoError when a file that is there cannot be mapped.
std::optional<CacheBody> open_cache(const std::filesystem::path& path, const CacheFormat& format,
                                    const CacheKey& key, const std::stop_token& stop = {});

/// Writes a cache file. Every failure throws IoError naming it and leaves what was there.
class CacheWriter {
 public:
  CacheWriter(const std::filesystem::path& path, const CacheFormat& format, const CacheKey& key,
              std::uint32_t width);

  /// Bytes per id, which the header says.
  std::uint32_t width() const noexcept { return width_; }
  /// The next bytes of the body.
  void write(std::span<const std::byte> bytes);
  /// Zeros, up to a whole word.
  void fill_word();
  /// Puts the file in place. After whole words; the last call.
  CacheBody commit();

 private:
  void flush();

  AtomicFile file_;
  std::uint32_t width_;
  std::vector<std::byte> buffer_;  // of what is not in the file yet
  std::uint64_t size_ = 0;         // of the whole
  Fingerprint sum_;
};

/// The fingerprint of a file's bytes. Throws CancelledError.
std::uint64_t fingerprint_of(const MappedFile& file, const std::stop_token& stop);

struct CacheOptions {
  std::filesystem::path directory;  // made, unless nothing comes into it
  std::uint64_t encoding = 0;       // as in CacheKey
  std::int64_t vocab_size = 0;
  std::stop_token stop = {};
};

/// What parse(CacheBody) makes of the cache of `text`, something that is false for a body that is not well-formed. When there is no
/// cache, encode(CacheWriter&) writes its body. Throws what they throw; IoError naming the text when it changed meanwhile;
/// CancelledError; as CacheWriter.
template <class Parse, class Encode>
auto through_cache(const MappedFile& text, const CacheFormat& format, const CacheOptions& options,
                   const Parse& parse, const Encode& encode) {
  const CacheKey key{.text = fingerprint_of(text, options.stop), .encoding = options.encoding};
  const auto path = cache_path(options.directory, text.path(), key.encoding, format.extension);
  if (const auto body = open_cache(path, format, key, options.stop))
    if (auto there = parse(*body)) return there;
  OutputDirectory directory(options.directory);
  CacheWriter writer(path, format, key, id_width(options.vocab_size));
  encode(writer);
  if (fingerprint_of(text, options.stop) != key.text)
    fail<IoError>(text.path().string(), "changed while it was encoded");
  const CacheBody body = writer.commit();
  directory.keep();
  auto made = parse(body);
  if (!made) fail<IoError>(path.string(), "does not hold what was written to it");
  return made;
}

}  // namespace gpt
