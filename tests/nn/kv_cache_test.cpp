#include "gpt/nn/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt::nn {
namespace {

using gpt::test::message_of;
using ::testing::HasSubstr;

TEST(KvCache, CountsTokensWithinItsCapacity) {
  KvCache cache({2, 3, 8}, 5);
  EXPECT_EQ(cache.length(), 0);
  cache.advance(4);
  cache.truncate(2);
  cache.advance(3);
  EXPECT_EQ(cache.length(), 5);
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.advance(1); }),
              HasSubstr("1 more tokens do not fit behind 5 of 5"));
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.truncate(6); }),
              HasSubstr("cannot truncate 5 tokens to 6"));
  EXPECT_EQ(cache.length(), 5);
}

TEST(KvCache, ClonesGoTheirOwnWay) {
  KvCache cache({1, 1, 16}, 4);
  cache.keys(0)[0] = 1;
  cache.advance(2);
  KvCache copy = cache.clone();
  copy.keys(0)[0] = 7;
  copy.advance(1);
  EXPECT_EQ(cache.keys(0)[0], 1);
  EXPECT_EQ(cache.length(), 2);
  EXPECT_EQ(copy.length(), 3);
  const KvCache moved = std::move(cache);
  EXPECT_EQ(moved.length(), 2);
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.capacity(), 0);
}

TEST(KvCache, KeepsItsLayersApart) {
  KvCache cache({2, 3, 8}, 20);  // two groups of 16 tokens, 3 heads, 16 floats for a head of 8
  EXPECT_EQ(cache.keys(1) - cache.keys(0), 2 * 3 * 16 * 16);
  EXPECT_EQ(cache.values(1) - cache.values(0), 2 * 3 * 16 * 16);
}

TEST(KvCache, RefusesExtentsThatHoldNothing) {
  EXPECT_THAT(message_of<ArgumentError>([] { KvCache({2, 3, 8}, 0); }), HasSubstr("capacity 0"));
  EXPECT_THAT(message_of<ArgumentError>([] { KvCache({2, 0, 8}, 1); }), HasSubstr("n_head 0"));
}

TEST(KvCache, SaysWhenMemoryIsNotToBeHad) {
  EXPECT_THROW(KvCache({1000, 1000, 1024}, std::int64_t{1} << 40), Error);
  EXPECT_THROW(KvCache({1, 1, 16}, std::numeric_limits<std::int64_t>::max()), MemoryError);
}

}  // namespace
}  // namespace gpt::nn
