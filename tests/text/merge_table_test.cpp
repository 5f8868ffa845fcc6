#include "text/merge_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace gpt {
namespace {

using Pairs = std::vector<std::pair<TokenId, TokenId>>;

// Pairs that all have the first place in a table for `count` merges, as one key in as many as it has slots does.
Pairs colliding_merges(std::size_t count) {
  constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15u;
  Pairs merges;
  const int shift = 64 - std::countr_zero(std::bit_ceil(2 * count + 2));
  for (std::uint64_t key = 1; merges.size() < count; ++key)
    if (key * kFactor >> shift == 0)
      merges.emplace_back(static_cast<TokenId>(key >> MergeTable::kIdBits),
                          static_cast<TokenId>(key & MergeTable::kMaxId));
  return merges;
}

TEST(MergeTable, LooksAtFewSlotsWhateverThePairsAre) {
  constexpr std::size_t kCount = 5000;
  Pairs merges = colliding_merges(kCount);
  const auto [left, right] = merges.back();
  merges.pop_back();
  MergeTable table(kCount);
  for (std::size_t i = 0; i < merges.size(); ++i)
    table.add(merges[i].first, merges[i].second, static_cast<TokenId>(i));
  for (std::size_t i = 0; i < merges.size(); ++i) {
    EXPECT_EQ(table.rank_of(merges[i].first, merges[i].second), i);
    EXPECT_LE(table.slots_seen(merges[i].first, merges[i].second), kMostSlots);
  }
  EXPECT_EQ(table.rank_of(left, right), MergeTable::kNone);
  EXPECT_LE(table.slots_seen(left, right), kMostSlots);
}

TEST(MergeTable, ReplacesAMergeOfTheSamePairWhereverItIsHeld) {
  const Pairs merges = colliding_merges(300);
  MergeTable table(2 * merges.size());
  for (const TokenId into : {1000, 2000})
    for (const auto& [left, right] : merges) table.add(left, right, into);
  for (std::size_t i = 0; i < merges.size(); ++i) {
    EXPECT_EQ(table.rank_of(merges[i].first, merges[i].second), merges.size() + i);
    std::vector<TokenId> ids{merges[i].first, merges[i].second};
    table.apply(ids, 0);
    EXPECT_EQ(ids, std::vector<TokenId>{2000});
  }
}

}  // namespace
}  // namespace gpt
