#include "train/sample_cache.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "gpt/core/error.h"

namespace gpt {
namespace {

struct SampleFooter {
  std::uint64_t ids = 0, samples = 0, lines = 0, bad = 0, dropped = 0, truncated = 0, message = 0;
};
static_assert(sizeof(SampleFooter) == 56);

/// Whether the parts that the footer tells of fill the room before it.
bool fills(const SampleFooter& f, std::size_t width, std::uint64_t room) noexcept {
  if (std::max({f.ids, f.samples, f.message}) > room) return false;  // before they are multiplied
  return blocks_of(f.ids) * block_bytes(width) + (f.samples + 1) * kWord + whole_words(f.message) == room;
}

bool are_in_order(std::span<const std::uint64_t> begins, std::uint64_t ids) noexcept {
  return begins.front() == 0 && begins.back() == ids &&
         std::ranges::adjacent_find(begins, std::ranges::greater_equal()) == begins.end();
}

/// What a message begins with that tells of a line.
std::string source_of(std::string_view name) { return concat("[", name, ":"); }

}  // namespace

std::optional<CachedSamples> samples_of(const CacheBody& body, std::string_view name) {
  if (body.bytes.size() < sizeof(SampleFooter)) return std::nullopt;
  const std::uint64_t room = body.bytes.size() - sizeof(SampleFooter);
  const auto footer = value_at<SampleFooter>(body.bytes.data() + room);
  if (footer.samples == 0 || !fills(footer, body.width, room)) return std::nullopt;

  const std::byte* blocks = body.bytes.data();
  const std::byte* index = blocks + blocks_of(footer.ids) * block_bytes(body.width);
  const std::span begins(static_cast<const std::uint64_t*>(static_cast<const void*>(index)),
                         footer.samples + 1);
  if (!are_in_order(begins, footer.ids)) return std::nullopt;
  const auto count = [](std::uint64_t n) { return static_cast<std::int64_t>(n); };
  std::string message(reinterpret_cast<const char*>(index + begins.size_bytes()), footer.message);
  if (!message.empty() && !message.starts_with('[')) message.insert(0, source_of(name));
  return CachedSamples{{body.owner, blocks, body.width, begins},
                       {.lines = count(footer.lines),
                        .bad = count(footer.bad),
                        .dropped = count(footer.dropped),
                        .truncated = count(footer.truncated),
                        .first_bad = std::move(message)}};
}

SampleCacheWriter::SampleCacheWriter(CacheWriter& file)
    : file_(file), blocks_(file.width(), [this](std::span<const std::byte> block) { file_.write(block); }) {}

void SampleCacheWriter::add(const MaskedIds& sample) {
  begins_.push_back(ids_);
  ids_ += sample.ids.size();
  blocks_.add(sample);
}

void SampleCacheWriter::finish(const JsonlCounts& counts, std::string_view name) {
  blocks_.finish();
  begins_.push_back(ids_);
  for (const std::uint64_t begin : begins_) file_.write(bytes_of(begin));
  // The file may have another name the next time.
  std::string_view message = counts.first_bad;
  if (const std::string source = source_of(name); message.starts_with(source))
    message.remove_prefix(source.size());
  file_.write(std::as_bytes(std::span(message)));
  file_.fill_word();
  const auto count = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  file_.write(bytes_of(SampleFooter{.ids = ids_,
                                    .samples = begins_.size() - 1,
                                    .lines = count(counts.lines),
                                    .bad = count(counts.bad),
                                    .dropped = count(counts.dropped),
                                    .truncated = count(counts.truncated),
                                    .message = message.size()}));
}

}  // namespace gpt
