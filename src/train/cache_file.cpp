#include "train/cache_file.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>
#include <system_error>

#include "core/input_file.h"
#include "train/file_pieces.h"

namespace gpt {
namespace {

struct CacheHeader {
  char name[8] = {};
  std::uint32_t version = 0;
  std::uint32_t width = 0;
  std::uint64_t text = 0;
  std::uint64_t encoding = 0;
};
static_assert(sizeof(CacheHeader) == 32);

CacheHeader header_of(const CacheFormat& format, const CacheKey& key, std::uint32_t width) {
  CacheHeader header{.version = format.version, .width = width, .text = key.text, .encoding = key.encoding};
  std::copy_n(format.name, sizeof header.name, header.name);
  return header;
}

void add_words(Fingerprint& sum, std::span<const std::byte> words) noexcept {
  for (std::size_t i = 0; i < words.size(); i += kWord) sum.add(value_at<std::uint64_t>(words.data() + i));
}

CacheBody body_of(const MappedFile& file, std::size_t width) {
  const std::span<const std::byte> bytes = file.bytes();
  return {file.owner(), bytes.subspan(sizeof(CacheHeader), bytes.size() - sizeof(CacheHeader) - kWord),
          width};
}

std::string hexadecimal(std::uint64_t value) {
  char digits[16];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), value, 16).ptr;
  const std::string_view written(digits, static_cast<std::size_t>(end - digits));
  return std::string(sizeof digits - written.size(), '0').append(written);
}

/// None where there is nothing to read: writing it says what is in the way. One that is there but cannot be mapped now is no
/// reason to encode again.
std::optional<MappedFile> map_if_there(const std::filesystem::path& path) {
  std::optional<InputFile> file;
  try {
    file.emplace(path);
  } catch (const IoError&) {
    return std::nullopt;
  }
  return MappedFile(*file);
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

std::optional<CacheBody> open_cache(const std::filesystem::path& path, const CacheFormat& format,
                                    const CacheKey& key, const std::stop_token& stop) {
  const auto file = map_if_there(path);
  if (!file) return std::nullopt;
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() < sizeof(CacheHeader) + kWord || bytes.size() % kWord != 0) return std::nullopt;
  const auto header = value_at<CacheHeader>(bytes.data());
  const CacheHeader expected = header_of(format, key, header.width);
  if (std::memcmp(&header, &expected, sizeof header) != 0) return std::nullopt;
  if (header.width != 2 && header.width != 4) return std::nullopt;
  Fingerprint sum;
  const std::size_t summed = bytes.size() - kWord;
  for_each_piece(*file, summed, stop, [&](std::span<const std::byte> piece) { add_words(sum, piece); });
  if (sum.value() != value_at<std::uint64_t>(bytes.data() + summed)) return std::nullopt;
  return body_of(*file, header.width);
}

CacheWriter::CacheWriter(const std::filesystem::path& path, const CacheFormat& format, const CacheKey& key,
                         std::uint32_t width)
    : file_(path, AtomicFile::Permissions::kOfUmask), width_(width) {  // an old one may not be readable
  buffer_.reserve(kPieceBytes + kPieceBytes / 2);
  write(bytes_of(header_of(format, key, width)));
}

void CacheWriter::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  if (buffer_.size() >= kPieceBytes) flush();
}

void CacheWriter::fill_word() {
  const std::byte zeros[kWord] = {};
  write(std::span(zeros).first(whole_words(size_) - size_));
}

CacheBody CacheWriter::commit() {
  flush();
  file_.write(bytes_of(sum_.value()));
  return body_of(file_.commit_and_map(), width_);
}

void CacheWriter::flush() {
  const auto words = std::span(buffer_).first(buffer_.size() / kWord * kWord);
  add_words(sum_, words);
  file_.write(words);
  buffer_.erase(buffer_.begin(), buffer_.begin() + std::ssize(words));
}

std::uint64_t fingerprint_of(const MappedFile& file, const std::stop_token& stop) {
  Fingerprint sum;
  for_each_piece(file, file.bytes().size(), stop, [&](std::span<const std::byte> piece) {
    sum.add(std::string_view(reinterpret_cast<const char*>(piece.data()), piece.size()));
  });
  return sum.value();
}

}  // namespace gpt
