#include "train/token_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/temp_dir.h"
#include "train/cache_bytes.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::header;
using test::read_file;
using test::TempDir;
using test::with_sum;
using test::word;
using test::write_file;

constexpr CacheKey kKey{.text = 0x1122334455667788u, .encoding = 7};

void write_tokens(const std::filesystem::path& path, const Ids& ids, std::int64_t vocab_size) {
  CacheWriter file(path, kTokenCache, kKey, id_width(vocab_size));
  TokenCacheWriter writer(file);
  writer.append(std::span(ids).first(ids.size() / 2));
  writer.append(std::span(ids).subspan(ids.size() / 2));
  writer.finish();
  file.commit();
}

std::shared_ptr<const TokenStore> read_tokens(const std::filesystem::path& path) {
  const auto body = open_cache(path, kTokenCache, kKey);
  return body ? tokens_of(*body) : nullptr;
}

Ids all_of(const TokenStore& store) { return store.copy(0, store.size()); }

std::uint64_t fingerprint_of(const Ids& ids) {
  Fingerprint sum;
  for (const TokenId id : ids) sum.add(id);
  return sum.value();
}

TEST(TokenCache, GivesBackWhatWasWritten) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {256, 65536, 65537, 1 << 21})
    for (std::size_t count = 0; count < 6; ++count) {
      Ids ids;
      for (std::size_t i = 0; i < count; ++i)
        ids.push_back(static_cast<TokenId>(vocab_size - 1 - static_cast<TokenId>(i)));
      write_tokens(dir / "f", ids, vocab_size);
      const auto store = read_tokens(dir / "f");
      ASSERT_NE(store, nullptr) << vocab_size << ", " << count;
      EXPECT_EQ(all_of(*store), ids);
      EXPECT_EQ(store->fingerprint(), fingerprint_of(ids));
    }
}

// The format, written out: tokens 1, 2, 0x102 in 16 and in 32 bits.
TEST(TokenCache, IsLaidOutAsDocumented) {
  const TempDir dir;
  const Ids ids{1, 2, 0x102};
  const std::string end = word(3) + word(fingerprint_of(ids));
  write_tokens(dir / "narrow", ids, 65536);
  EXPECT_EQ(read_file(dir / "narrow"),
            with_sum(header("gpttoken", 2, 2) + std::string("\1\0\2\0\2\1\0\0", 8) + end));
  write_tokens(dir / "wide", ids, 65537);
  EXPECT_EQ(read_file(dir / "wide"),
            with_sum(header("gpttoken", 2, 4) + std::string("\1\0\0\0\2\0\0\0\2\1\0\0\0\0\0\0", 16) + end));
}

// Whatever the file's fingerprint says.
TEST(TokenCache, IsNotUsedWhenTheTokensDoNotFillIt) {
  const TempDir dir;
  const auto is_used = [&](int width, std::size_t words, std::uint64_t count) {
    write_file(dir / "f",
               with_sum(header("gpttoken", 2, width) + std::string(8 * words, '\0') + word(count) + word(0)));
    return read_tokens(dir / "f") != nullptr;
  };
  for (const int width : {2, 4}) {
    const std::uint64_t in_a_word = 8 / static_cast<std::uint64_t>(width);
    EXPECT_TRUE(is_used(width, 0, 0));
    EXPECT_FALSE(is_used(width, 1, 0));
    EXPECT_FALSE(is_used(width, 0, 1));
    for (std::uint64_t count = 1; count <= in_a_word; ++count) EXPECT_TRUE(is_used(width, 1, count));
    EXPECT_FALSE(is_used(width, 1, in_a_word + 1));
    EXPECT_FALSE(is_used(width, 0, std::uint64_t{1} << 63));  // times the width it is 0
    EXPECT_FALSE(is_used(width, 1, (std::uint64_t{1} << 63) + 1));
    EXPECT_FALSE(is_used(width, 0, ~std::uint64_t{0}));
  }
}

TEST(TokenCache, IsNotUsedWhenItIsTooShortForItsNumbers) {
  for (const std::size_t bytes : {0u, 8u}) {
    // What stands before it would be taken for them, and be right.
    const std::vector<std::uint64_t> words{(std::uint64_t{1} << 63) - (16 - bytes) / 2, 0};
    EXPECT_EQ(tokens_of({nullptr, std::as_bytes(std::span(words)).last(bytes), 2}), nullptr) << bytes;
  }
}

}  // namespace
}  // namespace gpt
