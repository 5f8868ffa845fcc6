// Samples of JSON lines, kept in a file.
//
// All numbers are little-endian:
//   offset  bytes
//        0      8  "gptsampl"
//        8      4  version of this format and of how a line becomes a sample, 1
//       12      4  bytes per id, 2 or 4
//       16      8  fingerprint of the file of lines
//       24      8  fingerprint of the tokenizer and the options
//       32      …  the ids of all samples in blocks, as in train/sample_store.h
//               …  8 for each sample and 8 more: where it begins, in ids; how many ids there are
//               …  what is wrong with the first bad line, behind the name of its file, then zeros up to a multiple of 8
//              56  numbers of 8 bytes: ids; samples; JsonlCounts' lines, bad, dropped, truncated; bytes of what is wrong
//               8  fingerprint of all 8-byte words before
// There is no version but this one: a file of another one is made again, as a damaged one is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/atomic_file.h"
#include "gpt/train/jsonl_dataset.h"
#include "train/sample_store.h"
#include "train/token_cache.h"

namespace gpt {

struct CachedSamples {
  SampleStore samples;
  JsonlCounts counts;  // where first_bad is as it was written
};

/// What a cache file holds, mapped into memory after all of it was checked; none when there is no such file, or it is damaged
/// or was made of something else.
std::optional<CachedSamples> read_sample_cache(const std::filesystem::path& path, const TokenCacheKey& key);

/// Writes a cache file as the samples come, and keeps 8 bytes of each. Every failure throws IoError naming the file and leaves
/// what was there.
class SampleCacheWriter {
 public:
  SampleCacheWriter(const std::filesystem::path& path, const TokenCacheKey& key, std::int64_t vocab_size);

  void add(const MaskedIds& sample);
  /// Puts the file in place. The last call.
  void commit(const JsonlCounts& counts);

 private:
  void write(std::span<const std::byte> words);
  void flush();

  AtomicFile file_;
  SampleBlocks blocks_;
  std::deque<std::uint64_t> begins_;  // which grows without being copied
  std::uint64_t ids_ = 0;
  std::vector<std::byte> buffer_;
  Fingerprint sum_;
};

}  // namespace gpt
