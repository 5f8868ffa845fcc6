#include "text/word_counts.h"

#include <algorithm>

#include "core/parallel_try.h"
#include "text/piece_counts.h"
#include "text/pretokenizer.h"

namespace gpt {
namespace {

// Where the first part of at least `least` bytes ends: at a place where the pattern always cuts, or the text's end.
std::size_t part_size(std::string_view text, std::size_t least) {
  for (std::size_t at = std::max<std::size_t>(least, 1); at < text.size(); ++at)
    if (is_certain_cut(text, at)) return at;
  return text.size();
}

}  // namespace

std::vector<std::pair<std::string_view, std::int64_t>> count_pieces(
    std::span<const std::string_view> texts, const std::function<void(std::size_t)>& between) {
  constexpr std::size_t kPartBytes = std::size_t{1} << 18;
  constexpr std::int64_t kPartsPerThread = 16;  // parts take unequal times, and each round waits for its last
  PieceCounts all;
  std::vector<std::string_view> parts;
  std::vector<PieceCounts> counts;
  std::size_t done = 0, queued = 0;
  const auto run = [&] {
    const auto workers = std::min<std::int64_t>(num_threads(), static_cast<std::int64_t>(parts.size()));
    counts.assign(static_cast<std::size_t>(workers), {});
    // A worker has a table of its own, and takes every so-manieth part.
    parallel_try(workers, 1, [&](std::int64_t worker) {
      const auto own = static_cast<std::size_t>(worker);
      for (std::size_t i = own; i < parts.size(); i += static_cast<std::size_t>(workers)) {
        for (std::string_view rest = parts[i]; !rest.empty();) {
          const std::size_t length = next_piece_length(rest);
          counts[own].add(rest.substr(0, length), 1);
          rest.remove_prefix(length);
        }
      }
    });
    for (const PieceCounts& some : counts)
      some.each([&](std::string_view piece, std::int64_t count) { all.add(piece, count); });
    parts.clear();
    done += queued;
    queued = 0;
    between(done);
  };
  for (std::string_view text : texts) {
    while (!text.empty()) {
      const std::size_t size = part_size(text, kPartBytes);
      parts.push_back(text.substr(0, size));
      queued += size;
      text.remove_prefix(size);
      if (static_cast<std::int64_t>(parts.size()) >= kPartsPerThread * num_threads()) run();
    }
  }
  run();
  std::vector<std::pair<std::string_view, std::int64_t>> result;
  result.reserve(all.size());
  all.each([&](std::string_view piece, std::int64_t count) { result.emplace_back(piece, count); });
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace gpt
