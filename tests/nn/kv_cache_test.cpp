#include "gpt/nn/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

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

// The bytes of a cache that belong to its first `length` tokens, in one order.
std::vector<std::byte> content_of(KvCache& cache, std::int64_t length) {
  std::vector<std::byte> bytes;
  const auto append = [&bytes](const void* data, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
  };
  const KvShape shape = cache.shape();
  for (std::int64_t l = 0; l < shape.n_layer; ++l) {
    const ops::KvLayer layer = cache.layer(l);
    const auto element = static_cast<std::int64_t>(size_of(layer.dtype));
    const std::int64_t row = ops::padded_head_dim(shape.head_dim);
    for (std::int64_t h = 0; h < shape.n_head; ++h) {
      for (std::int64_t t = 0; t < length; ++t) {
        const auto* keys = static_cast<const std::byte*>(layer.keys) +
                           (h * layer.capacity + t / ops::kKeyGroup * ops::kKeyGroup) * row * element;
        for (std::int64_t d = 0; d < row; ++d)
          append(keys + (d * ops::kKeyGroup + t % ops::kKeyGroup) * element, size_of(layer.dtype));
        append(static_cast<const std::byte*>(layer.values) + (h * layer.capacity + t) * row * element,
               static_cast<std::size_t>(row * element));
        if (layer.key_scales == nullptr) continue;
        append(layer.key_scales + h * layer.capacity + t, sizeof(float));
        append(layer.value_scales + h * layer.capacity + t, sizeof(float));
      }
    }
  }
  return bytes;
}

// Writes a pattern that depends on `seed` over all of a cache.
void fill(KvCache& cache, unsigned seed) {
  for (std::int64_t l = 0; l < cache.shape().n_layer; ++l) {
    const ops::KvLayer layer = cache.layer(l);
    const auto rows = static_cast<std::size_t>(cache.shape().n_head * layer.capacity);
    const std::size_t size =
        rows * static_cast<std::size_t>(ops::padded_head_dim(cache.shape().head_dim)) * size_of(layer.dtype);
    const auto write = [&](void* data, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i)
        static_cast<std::byte*>(data)[i] = static_cast<std::byte>((seed = seed * 1103515245u + 12345u) >> 16);
    };
    write(layer.keys, size);
    write(layer.values, size);
    if (layer.key_scales == nullptr) continue;
    write(layer.key_scales, rows * sizeof(float));
    write(layer.value_scales, rows * sizeof(float));
  }
}

TEST(KvCache, TakesAnothersTokensAndCopiesOnlyWhatDiffers) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    for (const std::int64_t same : {0, 1, 15, 16, 17, 32, 37}) {
      KvCache from({2, 3, 8}, 50, dtype);
      fill(from, 1);
      from.advance(37);
      KvCache other({2, 3, 8}, 50, dtype);  // agrees with `from` in nothing
      fill(other, 2);
      other.advance(same);
      const auto kept = content_of(other, same / 16 * 16);
      other.copy_from(from, same);
      EXPECT_EQ(other.length(), 37);
      EXPECT_EQ(content_of(other, same / 16 * 16), kept) << "what both have in common was copied";
      KvCache head = from.clone(), to({2, 3, 8}, 50, dtype);
      head.truncate(same);
      fill(to, 3);
      to.copy_from(head, 0);
      EXPECT_EQ(to.length(), same);
      to.copy_from(from, same);
      EXPECT_EQ(content_of(to, 37), content_of(from, 37)) << same;
    }
  }
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
