#include "generate/prefix_cache.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace gpt::generate {
namespace {

using Tokens = std::vector<TokenId>;

nn::KvPage page() { return std::make_shared<std::byte>(); }

// Inserts pages of two tokens each for all of `tokens`, and returns the node of the last, which is in use.
PrefixCache::Node* insert(PrefixCache& cache, const Tokens& tokens) {
  PrefixCache::Node* node = nullptr;
  for (std::size_t i = 0; i + 2 <= tokens.size(); i += 2)
    node = cache.insert(node, nullptr, std::span(tokens).subspan(i, 2), page());
  return node;
}

void leave_all(PrefixCache& cache, PrefixCache::Node* last) {
  while (last != nullptr) last = cache.leave(*last);
}

std::int64_t found(PrefixCache& cache, const Tokens& tokens) {
  return PrefixCache::count_to(cache.find(nullptr, tokens));
}

TEST(PrefixCache, FindsTheLongestBeginning) {
  PrefixCache cache(2);
  insert(cache, {1, 2, 3, 4, 5, 6});
  insert(cache, {1, 2, 7, 8});
  EXPECT_EQ(cache.size(), 4u);
  EXPECT_EQ(found(cache, {1}), 0);
  EXPECT_EQ(found(cache, {1, 2}), 1);
  EXPECT_EQ(found(cache, {1, 2, 3, 4, 5}), 2);
  EXPECT_EQ(found(cache, {1, 2, 7, 8, 5, 6}), 2);
  EXPECT_EQ(found(cache, {3, 4}), 0) << "the same tokens behind others are another page";
  EXPECT_EQ(cache.find(nullptr, Tokens{9, 9}), nullptr);
}

TEST(PrefixCache, GivesThePagesUpToANode) {
  PrefixCache cache(2);
  PrefixCache::Node* const last = insert(cache, {1, 2, 3, 4});
  const std::vector<nn::KvPage> pages = PrefixCache::pages_to(last);
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[0], PrefixCache::page_of(*cache.find(nullptr, Tokens{1, 2})));
  EXPECT_EQ(pages[1], PrefixCache::page_of(*last));
  EXPECT_TRUE(PrefixCache::pages_to(nullptr).empty());
}

TEST(PrefixCache, KeepsThePageThatIsThere) {
  PrefixCache cache(2);
  const nn::KvPage first = page();
  PrefixCache::Node* const node = cache.insert(nullptr, nullptr, Tokens{1, 2}, first);
  EXPECT_EQ(cache.insert(nullptr, nullptr, Tokens{1, 2}, page()), node);
  EXPECT_EQ(PrefixCache::page_of(*node), first);
  EXPECT_EQ(cache.leave(*node), nullptr);
  EXPECT_EQ(cache.unused(), 0) << "it was inserted twice";
  EXPECT_EQ(cache.leave(*node), nullptr);
  EXPECT_EQ(cache.unused(), 1);
}

TEST(PrefixCache, EvictsFromTheEndsWhatWasLeftFirst) {
  PrefixCache cache(2);
  PrefixCache::Node* const longer = insert(cache, {1, 2, 3, 4});
  leave_all(cache, insert(cache, {5, 6}));
  leave_all(cache, longer);
  EXPECT_EQ(cache.unused(), 3);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, {5, 6}), 0);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, {1, 2, 3, 4}), 1);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_FALSE(cache.evict());
}

TEST(PrefixCache, KeepsWhatSomebodyUses) {
  PrefixCache cache(2);
  leave_all(cache, insert(cache, {1, 2, 3, 4}));
  leave_all(cache, insert(cache, {5, 6}));
  PrefixCache::Node* const last = cache.find(nullptr, Tokens{1, 2, 3, 4});
  cache.use(last);
  EXPECT_EQ(cache.unused(), 1);
  EXPECT_TRUE(cache.evict());
  EXPECT_FALSE(cache.evict());
  EXPECT_EQ(cache.size(), 2u);
  PrefixCache::Node* const first = cache.leave(*last);
  EXPECT_EQ(cache.unused(), 1);
  cache.use(last);  // a second user of the first page
  leave_all(cache, last);
  EXPECT_EQ(cache.unused(), 1);
  EXPECT_TRUE(cache.evict());
  EXPECT_FALSE(cache.evict());
  EXPECT_EQ(cache.leave(*first), nullptr);
  EXPECT_TRUE(cache.evict());
}

}  // namespace
}  // namespace gpt::generate
