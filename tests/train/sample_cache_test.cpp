#include "train/sample_cache.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "support/temp_dir.h"
#include "train/cache_bytes.h"

namespace gpt {
namespace {

using test::header;
using test::read_file;
using test::TempDir;
using test::with_sum;
using test::word;
using test::write_file;

constexpr CacheKey kSampleKey{.text = 0x1122334455667788u, .encoding = 7};
const JsonlCounts kCounts{
    .lines = 9, .bad = 2, .dropped = 3, .truncated = 1, .first_bad = "[lines:2] is bad"};

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
  CacheWriter file(path, kSampleCache, kSampleKey, id_width(vocab_size));
  SampleCacheWriter writer(file);
  for (const MaskedIds& sample : samples) writer.add(sample);
  writer.finish(counts, "lines");
  file.commit();
}

std::optional<CachedSamples> read_samples(const std::filesystem::path& path,
                                          std::string_view name = "lines") {
  const auto body = open_cache(path, kSampleCache, kSampleKey);
  return body ? samples_of(*body, name) : std::nullopt;
}

TEST(SampleCache, GivesBackWhatWasWritten) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {1000, 65536, 65537, 1 << 21}) {
    std::vector<MaskedIds> samples;
    for (const std::size_t count :
         {2u, 61u, 1u, 64u, 3u, 200u, 128u, 53u})  // at and across the ends of blocks
      samples.push_back(sample_of(count, vocab_size, samples.size() * 7));
    write_samples(dir / "f", samples, vocab_size);
    const auto cached = read_samples(dir / "f");
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
    EXPECT_EQ(cached->counts.first_bad, "[lines:2] is bad");
  }
}

TEST(SampleCache, NamesTheFileOfABadLineAsItIsCalledNow) {
  const TempDir dir;
  const auto read_back = [&](std::string first_bad) {
    write_samples(dir / "f", {sample_of(2, 10)}, 10, {.bad = 1, .first_bad = std::move(first_bad)});
    return read_samples(dir / "f", "renamed").value().counts.first_bad;
  };
  EXPECT_EQ(read_back("[lines:12] is bad"), "[renamed:12] is bad");
  EXPECT_EQ(read_back("[lines.model] is bad"), "[lines.model] is bad");  // it tells of something else
  EXPECT_EQ(read_back("[x]"), "[x]");
  EXPECT_EQ(read_back(""), "");
}

// The format, written out: samples 1, 2, 0x102 and 3, 4, of which 2, 0x102 and 4 are learned.
TEST(SampleCache, IsLaidOutAsDocumented) {
  const TempDir dir;
  for (const int width : {2, 4}) {
    write_samples(
        dir / "f",
        {{.ids = {1, 2, 0x102}, .learned = {false, true, true}}, {.ids = {3, 4}, .learned = {false, true}}},
        width == 2 ? 65536 : 65537);
    std::string ids;
    for (const int id : {1, 2, 0x102, 3, 4})
      ids += std::string{static_cast<char>(id), static_cast<char>(id >> 8)} +
             std::string(static_cast<std::size_t>(width) - 2, '\0');
    ids.resize(64 * static_cast<std::size_t>(width));
    EXPECT_EQ(read_file(dir / "f"),
              with_sum(header("gptsampl", 2, width) + ids + word(0b10110) + word(0) + word(3) + word(5) +
                       std::string("2] is bad\0\0\0\0\0\0\0", 16) + word(5) + word(2) + word(9) + word(2) +
                       word(3) + word(1) + word(9)))
        << width;
  }
}

/// A file of zeros for ids, whose fingerprint is right, whatever else is not.
struct Crafted {
  std::size_t width = 2;
  std::size_t block_bytes = 136;
  std::vector<std::uint64_t> begins{0, 3, 7};
  std::string message = {};
  std::uint64_t ids = 7, samples = 2, message_size = 0;
};

bool is_used(const Crafted& file) {
  const TempDir dir;
  std::string bytes =
      header("gptsampl", 2, static_cast<int>(file.width)) + std::string(file.block_bytes, '\0');
  for (const std::uint64_t begin : file.begins) bytes += word(begin);
  bytes += file.message + word(file.ids) + word(file.samples) + word(9) + word(2) + word(3) + word(1) +
           word(file.message_size);
  write_file(dir / "f", with_sum(bytes));
  return read_samples(dir / "f").has_value();
}

TEST(SampleCache, IsNotUsedWhenItsPartsDoNotFillIt) {
  EXPECT_TRUE(is_used({}));
  EXPECT_TRUE(is_used({.width = 4, .block_bytes = 264}));
  EXPECT_TRUE(is_used({.message = "1] wrong", .message_size = 8}));
  EXPECT_TRUE(is_used({.message = "1] wrong", .message_size = 7}));
  EXPECT_FALSE(is_used({.message = "1] wrong"}));
  EXPECT_FALSE(is_used({.message_size = 8}));
  EXPECT_FALSE(is_used({.message = "1] wrong", .message_size = 9}));
  EXPECT_FALSE(is_used({.width = 4}));
  EXPECT_FALSE(is_used({.begins = {0, 3, 65}, .ids = 65}));
  EXPECT_FALSE(is_used({.samples = 3}));
  EXPECT_FALSE(is_used({.begins = {0}, .ids = 0, .samples = 0}));
  EXPECT_FALSE(is_used({.block_bytes = 0, .begins = {0}, .ids = 0, .samples = 0}));
  for (const std::size_t width : {1u, 3u, 8u})
    EXPECT_FALSE(is_used({.width = width, .block_bytes = 64 * width + 8})) << width;
  const TempDir dir;
  for (std::size_t words = 0; words < 7; ++words) {  // less than the numbers at the end
    write_file(dir / "f", with_sum(header("gptsampl", 2, 2) + std::string(8 * words, '\0')));
    EXPECT_FALSE(read_samples(dir / "f")) << words;
  }
}

// The sizes of the parts are products, which do not overflow.
TEST(SampleCache, IsNotUsedWhenItsNumbersAreNoneOfAFile) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  constexpr auto power = [](int exponent) { return std::uint64_t{1} << exponent; };
  for (const std::uint64_t huge : {power(60), power(61) - 1, power(61), power(61) + 2, power(63), kMost}) {
    EXPECT_FALSE(is_used({.ids = huge}));
    EXPECT_FALSE(is_used({.begins = {0, 3, huge}, .ids = huge}));
    EXPECT_FALSE(is_used({.samples = huge}));
    EXPECT_FALSE(is_used({.block_bytes = 0, .begins = {}, .ids = 0, .samples = huge}));
    EXPECT_FALSE(is_used({.message_size = huge}));
  }
  // 2^61 + 2 is 17 times the number of blocks, each of 17 * 8 bytes: 2^64 + 16 in all.
  const std::uint64_t ids = (power(61) + 2) / 17 * 64;
  EXPECT_FALSE(is_used({.block_bytes = 16, .begins = {0, 3, ids}, .ids = ids}));
}

// Places beyond the ids would be read from other memory.
TEST(SampleCache, IsNotUsedWhenSamplesAreNotOneAfterAnother) {
  EXPECT_TRUE(is_used({.begins = {0, 4, 7}}));
  EXPECT_FALSE(is_used({.begins = {0, 3, 8}}));
  EXPECT_FALSE(is_used({.begins = {1, 3, 7}}));
  EXPECT_FALSE(is_used({.begins = {0, 7, 7}}));
  EXPECT_FALSE(is_used({.begins = {0, 1000, 7}}));
}

}  // namespace
}  // namespace gpt
