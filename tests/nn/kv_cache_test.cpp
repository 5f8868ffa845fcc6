#include "gpt/nn/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "nn/kv_content.h"
#include "support/expect_error.h"

namespace gpt::nn {
namespace {

using gpt::test::content_of;
using gpt::test::fill;
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

float& first_key(KvCache& cache) { return *reinterpret_cast<float*>(cache.layer(0).pages[0]); }

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

TEST(KvCache, TakesAnothersTokensAndCopiesOnlyWhatDiffers) {
  const KvShape pruned{3, 3, 8, {3, 1, 2}};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8})
    for (const std::int64_t before : {0, 5})  // virtual tokens
      for (const std::int64_t same : {0, 1, 15, 16, 17, 32, 37}) {
        const KvShape shape = same % 2 == 0 ? KvShape{2, 3, 8} : pruned;
        KvCache from(shape, 50, dtype, before);
        fill(from, 1);
        from.advance(37);
        KvCache other(shape, 50, dtype, before);  // agrees with `from` in nothing
        fill(other, 2);
        other.advance(same);
        const std::int64_t whole_groups = other.positions() / 16 * 16;
        const auto kept = content_of(other, whole_groups);
        other.copy_from(from, same);
        EXPECT_EQ(other.length(), 37);
        EXPECT_EQ(content_of(other, whole_groups), kept) << "what both have in common was copied";
        KvCache head = from.clone(), to(shape, 50, dtype, before);
        head.truncate(same);
        fill(to, 3);
        to.copy_from(head, 0);
        EXPECT_EQ(to.length(), same);
        to.copy_from(from, same);
        EXPECT_EQ(content_of(to, to.positions()), content_of(from, from.positions())) << same;
      }
}

TEST(KvCache, HasRoomForTheHeadsOfEachLayerAlone) {
  for (const DType dtype : {DType::f32, DType::i8}) {
    const KvCache whole({3, 4, 8}, 40, dtype), cache({3, 4, 8, {4, 1, 2}}, 40, dtype);
    EXPECT_EQ(cache.nbytes() * 12, whole.nbytes() * 7);
    // What one layer has is none of another's: each writes its own number over its keys, values and scales.
    const auto each = [&](std::int64_t l, auto&& f) {
      const ops::KvLayer layer = cache.layer(l);
      const std::int64_t numbers = cache.shape().heads(l) * layer.page_tokens;
      const std::int64_t bytes =
          numbers * ops::padded_head_dim(8) * static_cast<std::int64_t>(size_of(dtype));
      for (const auto& [offset, size] : {std::pair(layer.keys, bytes), std::pair(layer.values, bytes),
                                         std::pair(layer.key_scales, dtype == DType::i8 ? numbers * 4 : 0),
                                         std::pair(layer.value_scales, dtype == DType::i8 ? numbers * 4 : 0)})
        for (std::int64_t i = 0; i < size; ++i) f(layer.pages[0][offset + i]);
    };
    std::size_t written = 0;
    for (int l = 0; l < 3; ++l)
      each(l, [&](std::byte& b) {
        b = static_cast<std::byte>(l + 1);
        ++written;
      });
    EXPECT_EQ(written, cache.nbytes());
    for (int l = 0; l < 3; ++l)
      each(l, [&](std::byte& b) { ASSERT_EQ(b, static_cast<std::byte>(l + 1)) << l; });
  }
  EXPECT_THAT(message_of<ArgumentError>([] {
                KvCache({2, 4, 8, {4}}, 5);
              }),
              HasSubstr("layer_heads has 1 numbers"));
  EXPECT_THAT(message_of<ArgumentError>([] {
                KvCache({2, 4, 8, {4, 5}}, 5);
              }),
              HasSubstr("layer_heads has 5"));
  EXPECT_THAT(message_of<ArgumentError>([] {
                KvCache({2, 4, 8, {0, 4}}, 5);
              }),
              HasSubstr("layer_heads has 0"));
}

TEST(KvCache, MayBeCopiedToItself) {
  KvCache own({2, 3, 8}, 50);
  fill(own, 1);
  own.advance(37);
  const auto before = content_of(own, 37);
  own.copy_from(own, 0);
  EXPECT_EQ(own.length(), 37);
  EXPECT_EQ(content_of(own, 37), before);
}

TEST(KvCache, RefusesTheTokensOfACacheThatDoesNotFit) {
  KvCache cache({1, 1, 8}, 20), longer({1, 1, 8}, 21), half({1, 1, 8}, 20, DType::f16), deep({2, 1, 8}, 20);
  for (KvCache* other : {&longer, &half, &deep})
    EXPECT_THAT(message_of<ArgumentError>([&] { cache.copy_from(*other, 0); }),
                HasSubstr("another shape, capacity or type"));
  KvCache same({1, 1, 8}, 20);
  same.advance(3);
  cache.advance(5);
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.copy_from(same, 4); }),
              HasSubstr("5 and 3 tokens cannot have 4"));
  EXPECT_THAT(message_of<ArgumentError>([&] { same.copy_from(cache, 4); }),
              HasSubstr("3 and 5 tokens cannot have 4"));
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.copy_from(same, -1); }), HasSubstr("-1"));
}

TEST(KvCache, KeepsItsLayersApart) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    KvCache cache({2, 3, 8}, 20, dtype);  // 32 tokens in groups of 16, 3 heads, 16 elements for a head of 8
    EXPECT_EQ(cache.dtype(), dtype);
    EXPECT_EQ(cache.capacity(), 20);
    const ops::KvLayer first = cache.layer(0), second = cache.layer(1);
    const auto layer = static_cast<std::ptrdiff_t>(32 * 3 * 16 * size_of(dtype));
    EXPECT_EQ(first.dtype, dtype);
    EXPECT_EQ(first.page_tokens, 32);
    EXPECT_EQ(first.page_count, 1);
    EXPECT_EQ(second.keys - first.keys, layer);
    EXPECT_EQ(first.values - second.keys, layer);
    EXPECT_EQ(second.values - first.values, layer);
    EXPECT_EQ(first.key_scales - second.values, layer);
    const auto scales = static_cast<std::ptrdiff_t>(dtype == DType::i8 ? 32 * 3 * sizeof(float) : 0);
    EXPECT_EQ(first.value_scales - first.key_scales, scales);
    EXPECT_EQ(second.key_scales - first.value_scales, scales);
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
  EXPECT_THROW(KvCache({1000, 1000, 1024}, std::int64_t{1} << 40), MemoryError);
  EXPECT_THROW(KvCache({1, 1, std::numeric_limits<std::int64_t>::max()}, 1), MemoryError);
  EXPECT_THAT(message_of<MemoryError>([] {
                KvCache({1 << 20, 1 << 20, 1 << 20}, 16);
              }),
              HasSubstr("n_layer 1048576, n_head 1048576, head_dim 1048576, 16 tokens"));
  EXPECT_THROW(KvCache({1, 1, 16}, std::numeric_limits<std::int64_t>::max()), MemoryError);
}

}  // namespace
}  // namespace gpt::nn
