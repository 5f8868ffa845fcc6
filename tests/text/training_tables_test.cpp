// The hash tables of BPE training.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "text/bounded_probe.h"
#include "text/piece_counts.h"
#include "text/symbol_pairs.h"
#include "text/without_factor.h"

namespace gpt {
namespace {

constexpr std::size_t kCount = 5000;

// A piece of eight bytes that has this hash.
std::string piece_of(std::uint64_t hash) {
  std::uint64_t word = test::without_factor(hash ^ hash >> 32);  // as the rest of no bytes is mixed in
  word = test::without_factor(word ^ word >> 32) ^ 8;
  std::string piece(8, '\0');
  std::memcpy(piece.data(), &word, 8);
  return piece;
}

TEST(PieceCounts, LooksAtFewSlotsWhateverThePiecesAre) {
  std::vector<std::string> pieces;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    pieces.push_back(piece_of(i << 32));
    ASSERT_EQ(PieceCounts::hash_of(pieces.back()), i << 32);
  }
  PieceCounts counts;
  for (const std::string& piece : pieces) counts.add(piece, 1);
  for (const std::string& piece : pieces) counts.add(piece, 2);
  EXPECT_EQ(counts.size(), kCount);
  std::map<std::string_view, std::int64_t> found;
  counts.each([&](std::string_view piece, std::int64_t count) { found[piece] += count; });
  EXPECT_EQ(found.size(), kCount);
  for (const std::string& piece : pieces) {
    EXPECT_EQ(found[piece], 3);
    EXPECT_LE(counts.slots_seen(piece), kMostSlots);
  }
}

TEST(PieceCounts, CountsOnWhereAPieceMovesAsTheTableGrows) {
  std::vector<std::string> crowd, others;
  for (std::uint64_t i = 0; i < 300; ++i)
    crowd.push_back(piece_of(i << 12));  // the first slot until the table grows
  for (std::size_t i = 0; i < 20000; ++i) others.push_back(std::to_string(i));
  PieceCounts counts;
  for (const std::string& piece : crowd) counts.add(piece, 1);
  for (const std::string& piece : others) counts.add(piece, 1);
  for (const std::string& piece : crowd) counts.add(piece, 1);
  EXPECT_EQ(counts.size(), crowd.size() + others.size());
  std::map<std::string_view, std::int64_t> found;
  counts.each([&](std::string_view piece, std::int64_t count) { found[piece] += count; });
  for (const std::string& piece : crowd) EXPECT_EQ(found[piece], 2);
}

TEST(SymbolPairs, LooksAtFewSlotsWhateverThePairsAre) {
  std::vector<std::pair<TokenId, TokenId>> pairs;
  for (TokenId left = 0; pairs.size() < kCount; ++left)
    for (TokenId right = 0; right < 50000 && pairs.size() < kCount; ++right)
      if ((SymbolPairs::home_of(left, right) & 0x3fff) == 0)  // the first of 2^14 slots
        pairs.emplace_back(left, right);
  SymbolPairs numbers;
  for (std::uint32_t i = 0; i < kCount; ++i) EXPECT_EQ(numbers.number_of(pairs[i].first, pairs[i].second), i);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(numbers.number_of(pairs[i].first, pairs[i].second), i);
    EXPECT_LE(numbers.slots_seen(pairs[i].first, pairs[i].second), kMostSlots);
  }
  EXPECT_EQ(numbers.size(), kCount);
}

}  // namespace
}  // namespace gpt
