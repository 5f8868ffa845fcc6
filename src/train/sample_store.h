// Samples whose ids are learned in part, in memory or in a mapped file.
//
// Their ids follow each other, cut into blocks of 64 whatever sample they are of: the ids, as unsigned 16-bit numbers when the
// vocabulary has at most 65536 tokens, else as 32-bit ones, then 64 bits, of which bit i says whether id i of the block is
// learned. The last block is filled up with zeros.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "core/fingerprint.h"
#include "gpt/train/dataset.h"
#include "train/jsonl_line.h"

namespace gpt {

constexpr std::size_t kBlockIds = 64;

/// Of that many ids, without overflow for a number that is none of a file.
constexpr std::uint64_t blocks_of(std::uint64_t ids) noexcept {
  return ids / kBlockIds + (ids % kBlockIds != 0);
}
constexpr std::size_t block_bytes(std::size_t width) noexcept { return kBlockIds * width + 8; }

/// Makes blocks of samples as they come, and hands them on. Keeps one of them.
class SampleBlocks {
 public:
  using Sink = std::function<void(std::span<const std::byte>)>;

  SampleBlocks(std::size_t width, Sink sink);

  void add(const MaskedIds& sample);
  /// Hands on the last block. The last call.
  void finish();

 private:
  void flush();

  std::size_t width_;
  Sink sink_;
  std::array<std::byte, block_bytes(4)> block_ = {};
  std::uint64_t learned_ = 0;
  std::size_t filled_ = 0;  // ids
};

/// Immutable.
class SampleStore {
 public:
  /// `begins` are the places of the samples among the ids, and one more at the end. Both live as long as `owner`.
  SampleStore(std::shared_ptr<const void> owner, const std::byte* blocks, std::size_t width,
              std::span<const std::uint64_t> begins) noexcept
      : owner_(std::move(owner)), blocks_(blocks), width_(width), begins_(begins) {}

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t length(std::int64_t sample) const noexcept;
  /// The labels are kIgnoredLabel where nothing is learned.
  Sample at(std::int64_t sample) const;
  void add_to(Fingerprint& sum, std::int64_t sample) const noexcept;

 private:
  /// f(id, label) for all ids of a sample.
  template <class F>
  void visit(std::int64_t sample, const F& f) const;

  std::shared_ptr<const void> owner_;
  const std::byte* blocks_;
  std::size_t width_;
  std::span<const std::uint64_t> begins_;
};

}  // namespace gpt
