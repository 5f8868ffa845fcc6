#include "generate/prefix_cache.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace gpt::generate {
namespace {

using Tokens = std::vector<TokenId>;

nn::KvPage page() { return std::make_shared<std::byte>(); }

// Inserts pages of two tokens each for all of `tokens`, and returns the node of the last.
PrefixCache::Node* insert(PrefixCache& cache, const Tokens& tokens) {
  PrefixCache::Node* node = nullptr;
  for (std::size_t i = 0; i + 2 <= tokens.size(); i += 2)
    node = cache.insert(node, std::span(tokens).subspan(i, 2), page());
  return node;
}

std::size_t found(PrefixCache& cache, const Tokens& tokens) {
  PrefixCache::Node* last = nullptr;
  return cache.find(tokens, last).size();
}

TEST(PrefixCache, FindsTheLongestBeginning) {
  PrefixCache cache(2);
  insert(cache, {1, 2, 3, 4, 5, 6});
  insert(cache, {1, 2, 7, 8});
  EXPECT_EQ(cache.size(), 4u);
  EXPECT_EQ(found(cache, {1}), 0u);
  EXPECT_EQ(found(cache, {1, 2}), 1u);
  EXPECT_EQ(found(cache, {1, 2, 3, 4, 5}), 2u);
  EXPECT_EQ(found(cache, {1, 2, 7, 8, 5, 6}), 2u);
  EXPECT_EQ(found(cache, {3, 4}), 0u) << "the same tokens behind others are another page";
  PrefixCache::Node* last = nullptr;
  EXPECT_EQ(cache.find(Tokens{9, 9}, last).size(), 0u);
  EXPECT_EQ(last, nullptr);
}

TEST(PrefixCache, KeepsThePageThatIsThere) {
  PrefixCache cache(2);
  const nn::KvPage first = page();
  PrefixCache::Node* const node = cache.insert(nullptr, Tokens{1, 2}, first);
  EXPECT_EQ(cache.insert(nullptr, Tokens{1, 2}, page()), node);
  EXPECT_EQ(PrefixCache::page_of(*node), first);
  EXPECT_EQ(PrefixCache::parent_of(*node), nullptr);
}

TEST(PrefixCache, EvictsFromTheEndsWhatWasUsedLeastRecently) {
  PrefixCache cache(2);
  insert(cache, {1, 2, 3, 4});
  insert(cache, {5, 6});
  EXPECT_EQ(found(cache, {1, 2, 3, 4}), 2u);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, {5, 6}), 0u);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, {1, 2, 3, 4}), 1u);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_FALSE(cache.evict());
}

TEST(PrefixCache, KeepsWhatSomebodyElseHas) {
  PrefixCache cache(2);
  insert(cache, {1, 2, 3, 4});
  insert(cache, {5, 6});
  PrefixCache::Node* last = nullptr;
  std::vector<nn::KvPage> held = cache.find(Tokens{1, 2, 3, 4}, last);
  EXPECT_EQ(cache.unused(), 1);
  EXPECT_TRUE(cache.evict());
  EXPECT_FALSE(cache.evict());
  EXPECT_EQ(cache.size(), 2u);
  held.pop_back();
  EXPECT_EQ(cache.unused(), 1);
  EXPECT_TRUE(cache.evict());
  EXPECT_FALSE(cache.evict());
}

}  // namespace
}  // namespace gpt::generate
