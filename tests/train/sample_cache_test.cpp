#include "train/sample_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::read_file;
using test::TempDir;
using test::write_file;

constexpr TokenCacheKey kSampleKey{.text = 0x1122334455667788u, .encoding = 7};
const JsonlCounts kCounts{.lines = 9, .bad = 2, .dropped = 3, .truncated = 1, .first_bad = ":2] is bad"};

// Of `count` ids that differ, every third of them learned.
MaskedIds sample_of(std::size_t count, std::int64_t vocab_size, std::size_t first = 0) {
  MaskedIds sample;
  for (std::size_t i = first; i < first + count; ++i) {
    sample.ids.push_back(static_cast<TokenId>(vocab_size - 1 - static_cast<std::int64_t>(i)));
    sample.learned.push_back(i % 3 == 1);
  }
  return sample;
}

void write_samples(const std::filesystem::path& path, const std::vector<MaskedIds>& samples,
                   std::int64_t vocab_size, const JsonlCounts& counts = kCounts) {
  SampleCacheWriter writer(path, kSampleKey, vocab_size);
  for (const MaskedIds& sample : samples) writer.add(sample);
  writer.commit(counts);
}

TEST(SampleCache, GivesBackWhatWasWritten) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {1000, 65536, 65537, 1 << 21}) {
    std::vector<MaskedIds> samples;
    for (const std::size_t count :
         {2u, 61u, 1u, 64u, 3u, 200u, 128u, 53u})  // at and across the ends of blocks
      samples.push_back(sample_of(count, vocab_size, samples.size() * 7));
    write_samples(dir / "f", samples, vocab_size);
    const auto cached = read_sample_cache(dir / "f", kSampleKey);
    ASSERT_TRUE(cached);
    ASSERT_EQ(cached->samples.size(), std::ssize(samples));
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const Sample sample = cached->samples.at(at);
      EXPECT_EQ(sample.ids, samples[i].ids);
      EXPECT_EQ(cached->samples.length(at), std::ssize(samples[i].ids));
      for (std::size_t t = 0; t < sample.ids.size(); ++t)
        EXPECT_EQ(sample.labels.at(t), samples[i].learned[t] ? sample.ids[t] : kIgnoredLabel);
    }
    EXPECT_EQ(cached->counts.lines, 9);
    EXPECT_EQ(cached->counts.bad, 2);
    EXPECT_EQ(cached->counts.dropped, 3);
    EXPECT_EQ(cached->counts.truncated, 1);
    EXPECT_EQ(cached->counts.first_bad, ":2] is bad");
  }
}

std::string word(std::uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}

// The format, written out: samples 1, 2, 0x102 and 3, 4, of which 2, 0x102 and 4 are learned.
TEST(SampleCache, IsLaidOutAsDocumented) {
  const TempDir dir;
  for (const char width : {'\2', '\4'}) {
    write_samples(
        dir / "f",
        {{.ids = {1, 2, 0x102}, .learned = {false, true, true}}, {.ids = {3, 4}, .learned = {false, true}}},
        width == 2 ? 65536 : 65537);
    std::string ids;
    for (const int id : {1, 2, 0x102, 3, 4})
      ids += std::string{static_cast<char>(id), static_cast<char>(id >> 8)} +
             std::string(static_cast<std::size_t>(width) - 2, '\0');
    ids.resize(64 * static_cast<std::size_t>(width));
    const std::string expected = std::string("gptsampl\1\0\0\0", 12) + width + std::string(3, '\0') +
                                 word(0x1122334455667788u) + word(7) + ids + word(0b10110) + word(0) +
                                 word(3) + word(5) + std::string(":2] is bad\0\0\0\0\0\0", 16) + word(5) +
                                 word(2) + word(9) + word(2) + word(3) + word(1) + word(10);
    const std::string file = read_file(dir / "f");
    ASSERT_EQ(file.size(), expected.size() + 8);
    EXPECT_EQ(file.substr(0, expected.size()), expected) << int{width};
  }
}

TEST(SampleCache, IsNotUsedWhenAnyByteIsWrongOrMissing) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {1000, 100'000}) {
    write_samples(dir / "f", {sample_of(3, vocab_size)}, vocab_size);
    const std::string good = read_file(dir / "f");
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 6);  // which makes width 2 of 4 and back
      write_file(dir / "bad", bad);
      EXPECT_FALSE(read_sample_cache(dir / "bad", kSampleKey)) << "byte " << i;
    }
    for (std::size_t size = 0; size < good.size(); size += 4) {
      write_file(dir / "bad", good.substr(0, size));
      EXPECT_FALSE(read_sample_cache(dir / "bad", kSampleKey)) << size << " bytes";
    }
    write_file(dir / "bad", good + std::string(8, '\0'));
    EXPECT_FALSE(read_sample_cache(dir / "bad", kSampleKey));
  }
}

// Places beyond the ids would be read from other memory, whatever the fingerprint says.
TEST(SampleCache, IsNotUsedWhenSamplesAreNotOneAfterAnother) {
  const TempDir dir;
  write_samples(dir / "f", {sample_of(3, 1000), sample_of(4, 1000)}, 1000);
  const std::string good = read_file(dir / "f");
  const auto with_begins = [&](std::uint64_t a, std::uint64_t b, std::uint64_t c) {
    std::string file = good;
    file.replace(32 + 136, 24, word(a) + word(b) + word(c));
    Fingerprint sum;
    for (std::size_t i = 0; i + 8 < file.size(); i += 8) {
      std::uint64_t value = 0;
      for (std::size_t j = 0; j < 8; ++j)
        value |= std::uint64_t{static_cast<unsigned char>(file[i + j])} << 8 * j;
      sum.add(value);
    }
    file.replace(file.size() - 8, 8, word(sum.value()));
    write_file(dir / "bad", file);
    return read_sample_cache(dir / "bad", kSampleKey).has_value();
  };
  EXPECT_TRUE(with_begins(0, 3, 7));
  EXPECT_TRUE(with_begins(0, 4, 7));
  EXPECT_FALSE(with_begins(0, 3, 8));
  EXPECT_FALSE(with_begins(1, 3, 7));
  EXPECT_FALSE(with_begins(0, 7, 7));
  EXPECT_FALSE(with_begins(0, 1000, 7));
}

TEST(SampleCache, IsNotUsedForOtherLinesOrAnotherEncodingOrWhenThereIsNone) {
  const TempDir dir;
  write_samples(dir / "f", {sample_of(2, 10)}, 10);
  EXPECT_TRUE(read_sample_cache(dir / "f", kSampleKey));
  EXPECT_FALSE(read_sample_cache(dir / "f", {.text = kSampleKey.text + 1, .encoding = kSampleKey.encoding}));
  EXPECT_FALSE(read_sample_cache(dir / "f", {.text = kSampleKey.text, .encoding = kSampleKey.encoding + 1}));
  EXPECT_FALSE(read_sample_cache(dir / "none", kSampleKey));
  EXPECT_FALSE(read_sample_cache(dir.path(), kSampleKey));
}

TEST(SampleCache, WithoutCommitLeavesTheOldOne) {
  const TempDir dir;
  write_samples(dir / "f", {sample_of(5, 10)}, 10);
  const std::string before = read_file(dir / "f");
  SampleCacheWriter(dir / "f", kSampleKey, 10).add(sample_of(3, 10));
  EXPECT_EQ(read_file(dir / "f"), before);
  expect_error<IoError>([&] { SampleCacheWriter(dir / "missing/f", kSampleKey, 10); }, {"missing/f]"});
}

}  // namespace
}  // namespace gpt
