#include "train/sample_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"

namespace gpt {
namespace {

static_assert(std::endian::native == std::endian::little, "sample caches are little-endian");

constexpr std::uint64_t kWord = 8;
constexpr std::size_t kPiece = std::size_t{1} << 18;  // what is written or checked at once

struct SampleHeader {
  char magic[8] = {'g', 'p', 't', 's', 'a', 'm', 'p', 'l'};
  std::uint32_t version = 1;
  std::uint32_t width = 0;
  std::uint64_t text = 0;
  std::uint64_t encoding = 0;
};
static_assert(sizeof(SampleHeader) == 32);

struct SampleFooter {
  std::uint64_t ids = 0, samples = 0, lines = 0, bad = 0, dropped = 0, truncated = 0, message = 0;
};
static_assert(sizeof(SampleFooter) == 56);

constexpr std::uint64_t kAround = sizeof(SampleHeader) + sizeof(SampleFooter) + kWord;

std::uint64_t whole_words(std::uint64_t bytes) noexcept { return (bytes + kWord - 1) / kWord * kWord; }

template <class T>
std::span<const std::byte> bytes_of_value(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

template <class T>
T value_at(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void add_words(Fingerprint& sum, std::span<const std::byte> words) noexcept {
  for (std::size_t i = 0; i < words.size(); i += kWord) sum.add(value_at<std::uint64_t>(words.data() + i));
}

/// Of a file that may be larger than memory, which then holds a piece of it.
std::uint64_t sum_of_words(const MappedFile& file, std::span<std::byte> words) noexcept {
  Fingerprint sum;
  for (; !words.empty(); words = words.subspan(std::min(kPiece, words.size()))) {
    const auto piece = words.first(std::min(kPiece, words.size()));
    add_words(sum, piece);
    file.drop_pages(piece);
  }
  return sum.value();
}

/// Whether the parts that the footer tells of fill the room between header and footer.
bool fills(const SampleFooter& f, std::size_t width, std::uint64_t room) noexcept {
  if (std::max({f.ids, f.samples, f.message}) > room) return false;  // before they are multiplied
  return blocks_of(f.ids) * block_bytes(width) + (f.samples + 1) * kWord + whole_words(f.message) == room;
}

bool are_in_order(std::span<const std::uint64_t> begins, std::uint64_t ids) noexcept {
  return begins.front() == 0 && begins.back() == ids &&
         std::ranges::adjacent_find(begins, std::ranges::greater_equal()) == begins.end();
}

}  // namespace

std::optional<CachedSamples> read_sample_cache(const std::filesystem::path& path, const TokenCacheKey& key) {
  const auto file = open_cache(path);
  if (!file) return std::nullopt;
  const std::span<std::byte> bytes = file->bytes();
  if (bytes.size() < kAround || bytes.size() % kWord != 0) return std::nullopt;
  const auto header = value_at<SampleHeader>(bytes.data());
  const SampleHeader expected{.width = header.width, .text = key.text, .encoding = key.encoding};
  if (std::memcmp(&header, &expected, sizeof header) != 0) return std::nullopt;
  if (header.width != 2 && header.width != 4) return std::nullopt;
  const std::byte* end = bytes.data() + bytes.size() - kWord;
  const auto footer = value_at<SampleFooter>(end - sizeof(SampleFooter));
  if (!fills(footer, header.width, bytes.size() - kAround)) return std::nullopt;
  if (sum_of_words(*file, bytes.first(bytes.size() - kWord)) != value_at<std::uint64_t>(end))
    return std::nullopt;

  const std::byte* blocks = bytes.data() + sizeof header;
  const std::byte* index = blocks + blocks_of(footer.ids) * block_bytes(header.width);
  const std::span begins(static_cast<const std::uint64_t*>(static_cast<const void*>(index)),
                         footer.samples + 1);
  if (footer.samples == 0 || !are_in_order(begins, footer.ids)) return std::nullopt;
  const auto count = [](std::uint64_t n) { return static_cast<std::int64_t>(n); };
  const std::byte* message = index + begins.size_bytes();
  return CachedSamples{{file->owner(), blocks, header.width, begins},
                       {.lines = count(footer.lines),
                        .bad = count(footer.bad),
                        .dropped = count(footer.dropped),
                        .truncated = count(footer.truncated),
                        .first_bad = {reinterpret_cast<const char*>(message), footer.message}}};
}

SampleCacheWriter::SampleCacheWriter(const std::filesystem::path& path, const TokenCacheKey& key,
                                     std::int64_t vocab_size)
    : file_(path), blocks_(id_width(vocab_size), [this](std::span<const std::byte> block) { write(block); }) {
  const auto width = static_cast<std::uint32_t>(id_width(vocab_size));
  buffer_.reserve(kPiece + kPiece / 2);
  write(bytes_of_value(SampleHeader{.width = width, .text = key.text, .encoding = key.encoding}));
}

void SampleCacheWriter::add(const MaskedIds& sample) {
  begins_.push_back(ids_);
  ids_ += sample.ids.size();
  blocks_.add(sample);
}

void SampleCacheWriter::commit(const JsonlCounts& counts) {
  blocks_.finish();
  begins_.push_back(ids_);
  for (const std::uint64_t begin : begins_) write(bytes_of_value(begin));
  std::string message = counts.first_bad;
  message.resize(whole_words(message.size()));
  write(std::as_bytes(std::span(message)));
  const auto count = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  write(bytes_of_value(SampleFooter{.ids = ids_,
                                    .samples = begins_.size() - 1,
                                    .lines = count(counts.lines),
                                    .bad = count(counts.bad),
                                    .dropped = count(counts.dropped),
                                    .truncated = count(counts.truncated),
                                    .message = counts.first_bad.size()}));
  flush();
  file_.write(bytes_of_value(sum_.value()));
  file_.commit();
}

void SampleCacheWriter::write(std::span<const std::byte> words) {
  buffer_.insert(buffer_.end(), words.begin(), words.end());
  if (buffer_.size() >= kPiece) flush();
}

void SampleCacheWriter::flush() {
  add_words(sum_, buffer_);
  file_.write(buffer_);
  buffer_.clear();
}

}  // namespace gpt
