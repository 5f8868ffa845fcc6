#include "train/token_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::read_file;
using test::TempDir;
using test::write_file;

constexpr TokenCacheKey kKey{.text = 0x1122334455667788u, .encoding = 7};

void write_cache(const std::filesystem::path& path, const Ids& ids, std::int64_t vocab_size) {
  TokenCacheWriter writer(path, kKey, vocab_size);
  writer.append(std::span(ids).first(ids.size() / 2));
  writer.append(std::span(ids).subspan(ids.size() / 2));
  writer.commit();
}

Ids all_of(const TokenStore& store) { return store.copy(0, store.size()); }

TEST(TokenCache, GivesBackWhatWasWritten) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {256, 65536, 65537, 1 << 21})
    for (std::size_t count = 0; count < 6; ++count) {
      Ids ids;
      for (std::size_t i = 0; i < count; ++i)
        ids.push_back(static_cast<TokenId>(vocab_size - 1 - static_cast<TokenId>(i)));
      write_cache(dir / "f", ids, vocab_size);
      const auto store = read_token_cache(dir / "f", kKey);
      ASSERT_NE(store, nullptr) << vocab_size << ", " << count;
      EXPECT_EQ(all_of(*store), ids);
      EXPECT_EQ(store->fingerprint(), TokenStore(ids).fingerprint());
    }
}

// The format, written out: tokens 1, 2, 0x102 in 16 and in 32 bits.
TEST(TokenCache, IsLaidOutAsDocumented) {
  const TempDir dir;
  const Ids ids{1, 2, 0x102};
  const std::uint64_t fingerprint = TokenStore(ids).fingerprint();
  std::string end("\x03\0\0\0\0\0\0\0", 8);
  for (int i = 0; i < 8; ++i) end += static_cast<char>(fingerprint >> 8 * i);
  const std::string key("\x88\x77\x66\x55\x44\x33\x22\x11\x07\0\0\0\0\0\0\0", 16);
  write_cache(dir / "narrow", ids, 65536);
  EXPECT_EQ(read_file(dir / "narrow"),
            "gpttoken" + std::string("\1\0\0\0\2\0\0\0", 8) + key + std::string("\1\0\2\0\2\1\0\0", 8) + end);
  write_cache(dir / "wide", ids, 65537);
  EXPECT_EQ(read_file(dir / "wide"), "gpttoken" + std::string("\1\0\0\0\4\0\0\0", 8) + key +
                                         std::string("\1\0\0\0\2\0\0\0\2\1\0\0\0\0\0\0", 16) + end);
}

TEST(TokenCache, IsNotUsedWhenAnyByteIsWrongOrMissing) {
  const TempDir dir;
  for (const std::int64_t vocab_size : {1000, 100'000}) {
    write_cache(dir / "f", {5, 6, 7, 8}, vocab_size);
    const std::string good = read_file(dir / "f");
    for (std::size_t i = 0; i < good.size(); ++i)
      for (const int change : {1, 6, 128, 255}) {  // 6 makes width 2 of 4 and back
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ change);
        write_file(dir / "bad", bad);
        EXPECT_EQ(read_token_cache(dir / "bad", kKey), nullptr) << "byte " << i << " changed by " << change;
      }
    for (std::size_t size = 0; size < good.size(); ++size) {
      write_file(dir / "bad", good.substr(0, size));
      EXPECT_EQ(read_token_cache(dir / "bad", kKey), nullptr) << size << " bytes";
    }
    write_file(dir / "bad", good + std::string(8, '\0'));
    EXPECT_EQ(read_token_cache(dir / "bad", kKey), nullptr);
  }
}

TEST(TokenCache, IsNotUsedForAnotherTextOrEncodingOrWhenThereIsNone) {
  const TempDir dir;
  write_cache(dir / "f", {1, 2}, 10);
  EXPECT_NE(read_token_cache(dir / "f", kKey), nullptr);
  EXPECT_EQ(read_token_cache(dir / "f", {.text = kKey.text + 1, .encoding = kKey.encoding}), nullptr);
  EXPECT_EQ(read_token_cache(dir / "f", {.text = kKey.text, .encoding = kKey.encoding + 1}), nullptr);
  EXPECT_EQ(read_token_cache(dir / "none", kKey), nullptr);
  EXPECT_EQ(read_token_cache(dir.path(), kKey), nullptr);
}

TEST(TokenCache, OutlivesTheFileItWasReadFrom) {
  const TempDir dir;
  write_cache(dir / "f", {1, 2, 3}, 10);
  const auto store = read_token_cache(dir / "f", kKey);
  write_cache(dir / "f", {4}, 10);
  std::filesystem::remove(dir / "f");
  EXPECT_EQ(all_of(*store), (Ids{1, 2, 3}));
}

TEST(TokenCache, WithoutCommitLeavesTheOldOne) {
  const TempDir dir;
  write_cache(dir / "f", {1, 2, 3}, 10);
  {
    TokenCacheWriter writer(dir / "f", kKey, 10);
    writer.append(Ids{9});
  }
  const auto store = read_token_cache(dir / "f", kKey);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(all_of(*store), (Ids{1, 2, 3}));
  expect_error<IoError>([&] { TokenCacheWriter(dir / "missing/f", kKey, 10); }, {"missing/f]"});
}

}  // namespace
}  // namespace gpt
