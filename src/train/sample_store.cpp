#include "train/sample_store.h"

#include <cstring>

#include "gpt/core/token.h"
#include "train/cache_file.h"

namespace gpt {

SampleBlocks::SampleBlocks(std::size_t width, Sink sink) : width_(width), sink_(std::move(sink)) {}

void SampleBlocks::add(const MaskedIds& sample) {
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    std::memcpy(block_.data() + filled_ * width_, &sample.ids[i], width_);  // little-endian
    learned_ |= std::uint64_t{sample.learned[i]} << filled_;
    if (++filled_ == kBlockIds) flush();
  }
}

void SampleBlocks::finish() {
  if (filled_ > 0) flush();
}

void SampleBlocks::flush() {
  std::memcpy(block_.data() + kBlockIds * width_, &learned_, sizeof learned_);
  sink_(std::span(block_).first(block_bytes(width_)));
  block_ = {};
  learned_ = 0;
  filled_ = 0;
}

std::int64_t SampleStore::length(std::int64_t sample) const noexcept {
  const std::uint64_t* begin = begins_.data() + sample;
  return static_cast<std::int64_t>(begin[1] - begin[0]);
}

template <class F>
void SampleStore::visit(std::int64_t sample, const F& f) const {
  const std::uint64_t* begin = begins_.data() + sample;
  for (std::uint64_t i = begin[0]; i < begin[1]; ++i) {
    const std::byte* block = blocks_ + i / kBlockIds * block_bytes(width_);
    const std::size_t place = i % kBlockIds;
    const std::byte* at = block + place * width_;
    const TokenId id =
        width_ == 2 ? static_cast<TokenId>(value_at<std::uint16_t>(at)) : value_at<TokenId>(at);
    const bool learned = (value_at<std::uint64_t>(block + kBlockIds * width_) >> place & 1) != 0;
    f(id, learned ? id : kIgnoredLabel);
  }
}

Sample SampleStore::at(std::int64_t sample) const {
  Sample result;
  const auto count = static_cast<std::size_t>(length(sample));
  result.ids.reserve(count);
  result.labels.reserve(count);
  visit(sample, [&](TokenId id, TokenId label) {
    result.ids.push_back(id);
    result.labels.push_back(label);
  });
  return result;
}

void SampleStore::add_to(Fingerprint& sum, std::int64_t sample) const noexcept {
  sum.add(length(sample));
  visit(sample, [&](TokenId id, TokenId label) { sum.add(id).add(label); });
}

}  // namespace gpt
