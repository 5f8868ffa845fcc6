#include "gpt/nn/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
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

float& first_key(KvCache& cache) { return *static_cast<float*>(cache.layer(0).keys); }

TEST(KvCache, ClonesGoTheirOwnWay) {
  KvCache cache({1, 1, 16}, 4);
  first_key(cache) = 1;
  cache.advance(2);
  KvCache copy = cache.clone();
  first_key(copy) = 7;
  copy.advance(1);
  EXPECT_EQ(first_key(cache), 1);
  EXPECT_EQ(cache.length(), 2);
  EXPECT_EQ(copy.length(), 3);
  const KvCache moved = std::move(cache);
  EXPECT_EQ(moved.length(), 2);
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.capacity(), 0);
}

std::ptrdiff_t bytes_between(const void* a, const void* b) {
  return static_cast<const std::byte*>(b) - static_cast<const std::byte*>(a);
}

TEST(KvCache, KeepsItsLayersApart) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    KvCache cache({2, 3, 8}, 20, dtype);  // 32 tokens in groups of 16, 3 heads, 16 elements for a head of 8
    EXPECT_EQ(cache.dtype(), dtype);
    EXPECT_EQ(cache.capacity(), 20);
    const ops::KvLayer first = cache.layer(0), second = cache.layer(1);
    const auto layer = static_cast<std::ptrdiff_t>(32 * 3 * 16 * size_of(dtype));
    EXPECT_EQ(first.dtype, dtype);
    EXPECT_EQ(first.capacity, 32);
    EXPECT_EQ(bytes_between(first.keys, second.keys), layer);
    EXPECT_EQ(bytes_between(first.values, second.values), layer);
    const auto scales = static_cast<std::ptrdiff_t>(dtype == DType::i8 ? 32 * 3 * sizeof(float) : 0);
    EXPECT_EQ(bytes_between(first.key_scales, first.value_scales), scales);
    EXPECT_EQ(bytes_between(first.value_scales, second.key_scales), scales);
    EXPECT_EQ(cache.nbytes(), static_cast<std::size_t>(4 * layer + 4 * scales));
  }
}

TEST(KvCache, RefusesATypeItCannotHold) {
  EXPECT_EQ(message_of<ArgumentError>([] {
              KvCache({2, 3, 8}, 4, DType::f64);
            }),
            "[kv_cache] the type is float64, expected float32, float16, bfloat16 or int8");
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
