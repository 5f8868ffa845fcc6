// Samples of JSON lines, kept in a cache file (train/cache_file.h).
//
// Its body:
//        …  the ids of all samples in blocks, as in train/sample_store.h
//        …  8 for each sample and 8 more: where it begins, in ids; how many ids there are
//        …  what is wrong with the first bad line: a message, or its end behind "[<name of the file>:", then zeros up to a whole
//           word
//       56  numbers of 8 bytes: ids; samples; JsonlCounts' lines, bad, dropped, truncated; bytes of what is wrong
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "gpt/train/jsonl_dataset.h"
#include "train/cache_file.h"
#include "train/jsonl_line.h"
#include "train/sample_store.h"

namespace gpt {

/// Its version is that of the body, and of how a line becomes a sample.
inline constexpr CacheFormat kSampleCache{"gptsampl", 2, ".samples"};

struct CachedSamples {
  SampleStore samples;
  JsonlCounts counts;
};

/// None where a body is not well-formed. `name` is the one that the file of lines has now.
std::optional<CachedSamples> samples_of(const CacheBody& body, std::string_view name);

/// Writes the samples as they come, and keeps 8 bytes of each.
class SampleCacheWriter {
 public:
  explicit SampleCacheWriter(CacheWriter& file);

  void add(const MaskedIds& sample);
  /// Makes the body whole, of a file of lines of that name. The last call.
  void finish(const JsonlCounts& counts, std::string_view name);

 private:
  CacheWriter& file_;
  SampleBlocks blocks_;
  std::deque<std::uint64_t> begins_;  // which grows without being copied
  std::uint64_t ids_ = 0;
};

}  // namespace gpt
