#include "train/token_cache.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <iterator>
#include <string>
#include <system_error>

#include "gpt/core/error.h"

namespace gpt {
namespace {

static_assert(std::endian::native == std::endian::little, "token caches are little-endian");

struct Header {
  char magic[8] = {'g', 'p', 't', 't', 'o', 'k', 'e', 'n'};
  std::uint32_t version = 1;
  std::uint32_t width = 0;
  std::uint64_t text = 0;
  std::uint64_t encoding = 0;
};
static_assert(sizeof(Header) == 32);

struct Footer {
  std::uint64_t count = 0;
  std::uint64_t fingerprint = 0;
};
static_assert(sizeof(Footer) == 16);

constexpr std::uint64_t kAlign = 8;

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

std::string hexadecimal(std::uint64_t value) {
  char digits[16];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), value, 16).ptr;
  const std::string_view written(digits, static_cast<std::size_t>(end - digits));
  return std::string(sizeof digits - written.size(), '0').append(written);
}

}  // namespace

std::filesystem::path cache_path(const std::filesystem::path& directory, const std::filesystem::path& text,
                                 std::uint64_t encoding, std::string_view extension) {
  constexpr std::size_t kLongestStem = 100;  // leaves room for the rest in the 255 bytes of a file name
  std::error_code error;
  std::filesystem::path whole = std::filesystem::weakly_canonical(text, error);
  if (error) whole = text;
  const std::uint64_t id = Fingerprint().add(whole.string()).add(encoding).value();
  return directory /
         concat(text.filename().string().substr(0, kLongestStem), "-", hexadecimal(id), extension);
}

std::optional<MappedFile> open_cache(const std::filesystem::path& path) {
  try {
    return MappedFile(path);
  } catch (const IoError&) {
    return std::nullopt;
  }
}

std::shared_ptr<const TokenStore> read_token_cache(const std::filesystem::path& path,
                                                   const TokenCacheKey& key) {
  const auto file = open_cache(path);
  if (!file) return nullptr;
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() < sizeof(Header) + sizeof(Footer)) return nullptr;
  Header header;
  Footer footer;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&footer, bytes.data() + bytes.size() - sizeof footer, sizeof footer);
  const Header expected{.width = header.width, .text = key.text, .encoding = key.encoding};
  if (std::memcmp(&header, &expected, sizeof header) != 0) return nullptr;
  if (header.width != 2 && header.width != 4) return nullptr;

  const std::uint64_t room = bytes.size() - sizeof header - sizeof footer;
  if (footer.count > room) return nullptr;  // before it is multiplied
  const std::uint64_t size = footer.count * header.width;
  if ((size + kAlign - 1) / kAlign * kAlign != room) return nullptr;
  auto tokens =
      std::make_shared<const TokenStore>(file->owner(), bytes.subspan(sizeof header, size), header.width);
  return tokens->fingerprint() == footer.fingerprint ? tokens : nullptr;
}

TokenCacheWriter::TokenCacheWriter(const std::filesystem::path& path, const TokenCacheKey& key,
                                   std::int64_t vocab_size)
    : file_(path), narrow_(vocab_size <= 65536) {
  file_.write(bytes_of(Header{.width = narrow_ ? 2u : 4u, .text = key.text, .encoding = key.encoding}));
}

void TokenCacheWriter::append(std::span<const TokenId> tokens) {
  count_ += tokens.size();
  for (const TokenId token : tokens) fingerprint_.add(token);
  if (!narrow_) return file_.write(std::as_bytes(tokens));
  narrowed_.clear();
  for (const TokenId token : tokens) narrowed_.push_back(static_cast<std::uint16_t>(token));
  file_.write(std::as_bytes(std::span(narrowed_)));
}

void TokenCacheWriter::commit() {
  const std::uint64_t size = count_ * (narrow_ ? 2 : 4);
  const std::byte zeros[kAlign] = {};
  file_.write(std::span(zeros).first((kAlign - size % kAlign) % kAlign));
  file_.write(bytes_of(Footer{count_, fingerprint_.value()}));
  file_.commit();
}

}  // namespace gpt
