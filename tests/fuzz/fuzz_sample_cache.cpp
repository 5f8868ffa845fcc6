// The body of a cache file either holds samples, or tokens, that can then all be read, or is refused: whatever the fingerprint of
// the file says, which is not looked at here. The first byte says what the body is taken for.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "train/sample_cache.h"
#include "train/token_cache.h"

namespace {

using gpt::fuzz::require;

/// In memory of exactly its size, so that the sanitizer sees a read beyond it.
gpt::CacheBody body_of(const std::uint8_t* data, std::size_t size, std::size_t width) {
  const auto words = std::make_shared<std::vector<std::uint64_t>>(size / gpt::kWord);
  if (!words->empty()) std::memcpy(words->data(), data, words->size() * gpt::kWord);
  return {words, std::as_bytes(std::span(*words)), width};
}

void read_samples(const gpt::CacheBody& body) {
  const auto cached = gpt::samples_of(body, "fuzz");
  if (!cached) return;
  const gpt::SampleStore& samples = cached->samples;
  require(samples.size() > 0);
  std::size_t ids = 0;
  for (std::int64_t i = 0; i < samples.size(); ++i) {
    const gpt::Sample sample = samples.at(i);
    require(!sample.ids.empty() && sample.labels.size() == sample.ids.size());
    require(samples.length(i) == std::ssize(sample.ids));
    for (std::size_t t = 0; t < sample.ids.size(); ++t)
      require(sample.labels[t] == sample.ids[t] || sample.labels[t] == gpt::kIgnoredLabel);
    ids += sample.ids.size();
  }
  require(ids * body.width <= body.bytes.size());
  require(cached->counts.first_bad.size() <= body.bytes.size() + 6);  // "[fuzz:"
}

void read_tokens(const gpt::CacheBody& body) {
  const auto tokens = gpt::tokens_of(body);
  if (tokens == nullptr) return;
  require(static_cast<std::size_t>(tokens->size()) * body.width <= body.bytes.size());
  require(std::ssize(tokens->copy(0, tokens->size())) == tokens->size());
}

}  // namespace

GPT_FUZZER(sample_cache) {
  if (size == 0) return 0;
  const gpt::CacheBody body = body_of(data + 1, size - 1, (data[0] & 1) != 0 ? 4 : 2);
  if ((data[0] & 2) != 0)
    read_tokens(body);
  else
    read_samples(body);
  return 0;
}
