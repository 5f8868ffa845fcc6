#include "text/token_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "text/without_factor.h"

namespace gpt {
namespace {

// Keys of eight bytes that all have hashes whose lower half is 0: the hash function undone.
std::vector<std::string> colliding_keys(std::uint32_t count) {
  std::vector<std::string> keys;
  for (std::uint64_t half = 1; half <= count; ++half) {
    std::uint64_t head = test::without_factor(half << 32 | half);
    head = (head ^ head >> 32) - 8;
    keys.emplace_back(8, '\0');
    std::memcpy(keys.back().data(), &head, 8);
  }
  return keys;
}

TEST(TokenTable, FindsKeysOfAllLengths) {
  std::vector<std::string> keys;
  for (int i = 0; i < 5000; ++i)
    keys.push_back(std::to_string(i) + std::string(static_cast<std::size_t>(i % 20), 'x'));
  TokenTable table(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_TRUE(table.insert(keys[i], static_cast<TokenId>(i)));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_FALSE(table.insert(keys[i], 7));
    EXPECT_EQ(table.find(keys[i]), static_cast<TokenId>(i));
  }
  EXPECT_EQ(table.find("absent"), -1);
}

TEST(TokenTable, LooksAtFewSlotsWhateverTheKeysAre) {
  const std::vector<std::string> keys = colliding_keys(5000);
  for (const std::string& key : keys) ASSERT_EQ(TokenTable::hash_of(key) & 0xffffffff, 0u);
  TokenTable table(keys.size());
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) {
    EXPECT_TRUE(table.insert(keys[i], static_cast<TokenId>(i)));
    EXPECT_FALSE(table.insert(keys[i], 7));
  }
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) {
    EXPECT_EQ(table.find(keys[i]), static_cast<TokenId>(i));
    EXPECT_LE(table.slots_seen(keys[i]), kMostSlots);
  }
  EXPECT_EQ(table.find(keys.back()), -1);
  EXPECT_LE(table.slots_seen(keys.back()), kMostSlots);
}

}  // namespace
}  // namespace gpt
