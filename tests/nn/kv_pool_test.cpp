#include "gpt/nn/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "nn/kv_content.h"
#include "nn/kv_pool_state.h"
#include "support/expect_error.h"

namespace gpt::nn {
namespace {

using gpt::test::content_of;
using gpt::test::fill;
using gpt::test::message_of;
using ::testing::HasSubstr;

const KvShape kShape{2, 3, 8};
// 2 layers, 3 heads, keys and values of 16 elements, 16 tokens.
constexpr std::size_t kPage = std::size_t{2} * 3 * 2 * 16 * 16 * 4;

void extend(KvCache& cache, std::int64_t tokens) {
  cache.reserve(cache.length() + tokens);
  cache.advance(tokens);
}

TEST(KvPool, HasAsManyPagesAsItsBudgetAllows) {
  EXPECT_EQ(KvPool(kShape, 16, kPage).total_pages(), 1);
  EXPECT_EQ(KvPool(kShape, 16, 5 * kPage - 1).total_pages(), 4);
  EXPECT_EQ(KvPool(kShape, 48, 9 * kPage).total_pages(), 3);
  EXPECT_EQ(KvPool(kShape, 16, 4 * kPage, DType::f16).total_pages(), 8);
  const KvPool int8(kShape, 16, 4 * kPage, DType::i8);  // with a scale for every 16 elements
  EXPECT_EQ(int8.page_bytes(), kPage / 4 + kPage / 16);
  EXPECT_EQ(int8.pages_for(0), 0);
  EXPECT_EQ(int8.pages_for(16), 1);
  EXPECT_EQ(int8.pages_for(17), 2);
}

TEST(KvPool, HasRoomForTheHeadsOfEachLayerAlone) {
  const KvShape shape{3, 3, 8, {3, 1, 2}};
  for (const DType dtype : {DType::f32, DType::i8}) {
    const KvPool whole({3, 3, 8}, 16, 64 * kPage, dtype), pool(shape, 16, 64 * kPage, dtype);
    EXPECT_EQ(pool.page_bytes() * 9, whole.page_bytes() * 6);
    KvCache cache = pool.make_cache(60);
    extend(cache, 40);
    fill(cache, 7);
    const auto content = content_of(cache, 40);
    KvCache shares = pool.make_cache(60);
    shares.share(cache.pages().first(2), 32);
    EXPECT_EQ(content_of(shares, 32), content_of(cache, 32));
    KvCache copy = cache.clone();
    extend(copy, 10);  // which takes a page of its own for what it shared
    EXPECT_EQ(content_of(copy, 40), content);
    EXPECT_EQ(content_of(cache, 40), content);
  }
}

TEST(KvPool, KeepsVirtualTokensBeforeTheOthers) {
  const KvPool pool(kShape, 16, 4 * kPage);
  KvCache cache = pool.make_cache(40, 10);
  EXPECT_EQ(cache.virtual_tokens(), 10);
  EXPECT_EQ(cache.capacity(), 40);
  EXPECT_EQ(cache.positions(), 0);  // a sequence begins with both
  extend(cache, 6);
  EXPECT_EQ(cache.length(), 6);
  EXPECT_EQ(cache.positions(), 16);
  EXPECT_EQ(pool.used_pages(), 1);
  extend(cache, 1);
  EXPECT_EQ(pool.used_pages(), 2);
  KvCache shares = pool.make_cache(40, 10);
  shares.share(cache.pages().first(1), 6);
  EXPECT_EQ(shares.positions(), 16);
  EXPECT_EQ(pool.used_pages(), 2);
  const KvCache same = cache.clone();
  EXPECT_EQ(same.positions(), 17);
  cache.truncate(6);
  EXPECT_EQ(cache.pages().size(), 1u);
  cache.truncate(0);
  EXPECT_EQ(cache.pages().size(), 0u);
  KvCache without = pool.make_cache(40);
  EXPECT_THAT(message_of<ArgumentError>([&] { without.copy_from(same, 0); }), HasSubstr("virtual tokens"));
  EXPECT_THAT(message_of<ArgumentError>([&] { pool.make_cache(40, -1); }), HasSubstr("-1 virtual tokens"));
  KvCache late = pool.make_cache(40, 10);
  EXPECT_THROW(late.share(same.pages().first(1), 7), ArgumentError);
}

TEST(KvPool, GivesPagesAsTokensArriveAndTakesThemBack) {
  const KvPool pool(kShape, 16, 4 * kPage);
  std::optional<KvCache> cache(pool.make_cache(100));
  EXPECT_EQ(pool.used_pages(), 0);
  EXPECT_EQ(cache->capacity(), 100);
  extend(*cache, 16);
  EXPECT_EQ(pool.used_pages(), 1);
  extend(*cache, 1);
  EXPECT_EQ(pool.used_pages(), 2);
  EXPECT_EQ(cache->nbytes(), 2 * kPage);
  cache->truncate(16);
  EXPECT_EQ(pool.used_pages(), 1);
  extend(*cache, 40);
  EXPECT_EQ(pool.used_pages(), 4);
  KvCache second = pool.make_cache(16);
  EXPECT_FALSE(second.try_reserve(1));
  EXPECT_THAT(message_of<MemoryError>([&] { second.reserve(1); }), HasSubstr("4 pages are in use"));
  cache.reset();
  EXPECT_EQ(pool.used_pages(), 0);
  EXPECT_TRUE(second.try_reserve(16));
  EXPECT_EQ(pool.peak_pages(), 4);
  EXPECT_THAT(message_of<ArgumentError>([&] { second.reserve(17); }), HasSubstr("17 tokens where 0 of 16"));
}

TEST(KvPool, MayGoBeforeItsCaches) {
  std::optional<KvPool> pool(std::in_place, kShape, 16, kPage);
  KvCache cache = pool->make_cache(20);
  pool.reset();
  extend(cache, 16);
  EXPECT_FALSE(cache.try_reserve(17));
}

TEST(KvPool, CopiesASharedPageWhenItIsWrittenTo) {
  const KvPool pool(kShape, 16, 8 * kPage);
  KvCache cache = pool.make_cache(100);
  extend(cache, 40);
  fill(cache, 1);
  KvCache copy = cache.clone();
  EXPECT_EQ(copy.length(), 40);
  EXPECT_EQ(pool.used_pages(), 3);
  const auto before = content_of(cache, 40);
  extend(copy, 1);  // into the third page
  EXPECT_EQ(pool.used_pages(), 4);
  EXPECT_EQ(content_of(copy, 40), before);
  EXPECT_EQ(copy.pages()[1], cache.pages()[1]);
  EXPECT_NE(copy.pages()[2], cache.pages()[2]);
  extend(cache, 1);  // which is its own again
  EXPECT_EQ(pool.used_pages(), 4);
  KvCache third = pool.make_cache(100);
  third.share(cache.pages().first(2), 32);
  EXPECT_EQ(content_of(third, 32), content_of(cache, 32));
  extend(third, 1);  // a page of its own behind those
  EXPECT_EQ(pool.used_pages(), 5);
  third.truncate(20);
  EXPECT_EQ(pool.used_pages(), 4);
  extend(third, 1);
  EXPECT_EQ(pool.used_pages(), 5);
  EXPECT_EQ(content_of(third, 20), content_of(cache, 20));
  copy.copy_from(cache, 0);
  EXPECT_EQ(pool.used_pages(), 4);
  copy.copy_from(copy, 41);
  EXPECT_EQ(copy.length(), 41);
  EXPECT_EQ(copy.pages()[2], cache.pages()[2]);
}

TEST(KvPool, LetsASequenceTakeAnothersEqualPage) {
  const KvPool pool(kShape, 16, 8 * kPage);
  KvCache cache = pool.make_cache(100), equal = pool.make_cache(100);
  for (KvCache* c : {&cache, &equal}) {
    extend(*c, 40);
    fill(*c, 1);
  }
  const auto before = content_of(cache, 40);
  cache.replace(1, equal.pages()[1]);
  EXPECT_EQ(pool.used_pages(), 5);
  EXPECT_EQ(content_of(cache, 40), before);
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.replace(3, equal.pages()[1]); }),
              HasSubstr("page 3 of 3"));
}

TEST(KvPool, KeepsWhatItGaveWhereItCannotGiveAll) {
  const KvPool pool(kShape, 16, 2 * kPage);
  KvCache cache = pool.make_cache(100), other = pool.make_cache(100);
  extend(other, 1);
  EXPECT_FALSE(cache.try_reserve(32));
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(pool.used_pages(), 2);
  other = {};
  EXPECT_TRUE(cache.try_reserve(32));
}

TEST(KvPool, CutsPagesFromRegionsThatGoBackWhenTheyAreIdle) {
  constexpr std::size_t kBytes = 1024;
  const auto state = std::make_shared<detail::KvPoolState>(kBytes, 33);  // regions of an eighth: 4 pages
  std::vector<KvPage> pages;
  const auto take = [&] { return pages.emplace_back(detail::KvPoolState::take(state)).get(); };
  std::byte* const first = take();
  EXPECT_EQ(state->held(), 4);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(take(), first + i * static_cast<std::ptrdiff_t>(kBytes));
  EXPECT_EQ(state->held(), 4);
  for (int i = 0; i < 4; ++i) take();
  EXPECT_EQ(state->held(), 8);
  // A page that came back is the next one.
  std::byte* const second = pages[1].get();
  pages[1].reset();
  pages[2].reset();
  pages[1] = detail::KvPoolState::take(state);
  pages[2] = detail::KvPoolState::take(state);
  EXPECT_EQ(pages[2].get(), second);
  EXPECT_EQ(state->held(), 8);
  // Of two regions with pages to give, the one that was full last gives: so that the other may become idle.
  pages[0].reset();
  pages[4].reset();
  pages[4] = detail::KvPoolState::take(state);
  EXPECT_EQ(state->held() - state->used(), 1);
  for (int i = 1; i < 4; ++i) pages[static_cast<std::size_t>(i)].reset();
  EXPECT_EQ(state->held(), 4);
  EXPECT_EQ(state->used(), 4);
  // No more than there may be, in a last region that is smaller.
  while (take() != nullptr) {
  }
  EXPECT_EQ(state->used(), 33);
  EXPECT_EQ(state->held(), 33);
  pages.clear();
  EXPECT_EQ(state->held(), 0);
  EXPECT_EQ(state->used(), 0);
  EXPECT_EQ(state->peak(), 33);
}

TEST(KvPool, MayBeUsedByThreadsWithTheirOwnCaches) {
  const KvPool pool(kShape, 16, 40 * kPage);
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed)
    threads.emplace_back([&pool, seed] {
      for (std::int64_t i = 0; i < 50; ++i) {
        KvCache cache = pool.make_cache(160);
        extend(cache, 1 + (i * seed) % 144);
        fill(cache, seed);
        const std::int64_t half = cache.length() / 2;
        const auto before = content_of(cache, half);
        KvCache copy = cache.clone();
        copy.truncate(half);
        extend(copy, 1);
        EXPECT_EQ(content_of(copy, half), before);
        EXPECT_EQ(content_of(cache, half), before);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.used_pages(), 0);
  EXPECT_LE(pool.peak_pages(), 40);
}

TEST(KvPool, RefusesWhatMakesNoSense) {
  EXPECT_THAT(message_of<ArgumentError>([] { KvPool(kShape, 8, kPage); }), HasSubstr("page_tokens is 8"));
  EXPECT_THAT(message_of<ArgumentError>([] { KvPool(kShape, 0, kPage); }), HasSubstr("page_tokens is 0"));
  EXPECT_THAT(message_of<ArgumentError>([] { KvPool(kShape, 16, kPage - 1); }),
              HasSubstr(concat("expected at least ", kPage)));
  EXPECT_THAT(message_of<ArgumentError>([] { KvPool(kShape, 16, kPage, DType::f64); }), HasSubstr("float64"));
  const KvPool pool(kShape, 16, 4 * kPage);
  EXPECT_THAT(message_of<ArgumentError>([&] { pool.make_cache(0); }), HasSubstr("capacity 0"));
  KvCache cache = pool.make_cache(40), full = pool.make_cache(40), own(kShape, 40);
  extend(full, 20);
  EXPECT_THAT(message_of<ArgumentError>([&] { cache.share(full.pages(), 33); }), HasSubstr("2 pages"));
  EXPECT_THAT(message_of<ArgumentError>([&] { full.share(full.pages(), 20); }), HasSubstr("holds pages"));
  EXPECT_THAT(message_of<ArgumentError>([&] { own.share(full.pages(), 20); }), HasSubstr("has no pool"));
  EXPECT_THAT(message_of<ArgumentError>([&] { own.copy_from(full, 0); }), HasSubstr("another pool"));
}

}  // namespace
}  // namespace gpt::nn
