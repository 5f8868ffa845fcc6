// The merges of a byte-pair encoding, by the pair of ids, and their application.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

class MergeTable {
 public:
  using Rank = std::uint32_t;
  // A slot of the table is 64 bits: two ids and a rank.
  static constexpr int kIdBits = 21;
  static constexpr int kRankBits = 22;
  static constexpr TokenId kMaxId = (1 << kIdBits) - 1;
  static constexpr Rank kNone = (1u << kRankBits) - 1;  // greater than any rank

  /// For `count` merges, fewer than kNone.
  explicit MergeTable(std::size_t count);

  /// The next rank: `left` and `right` become `merged`. Replaces an earlier merge of the same pair.
  void add(TokenId left, TokenId right, TokenId merged);

  /// The rank of a pair, or kNone.
  Rank rank_of(TokenId left, TokenId right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t i = home_of(key);; i = (i + 1) & mask_) {
      const std::uint64_t slot = slots_[i];
      if (slot >> kRankBits == key || slot == kEmpty) return static_cast<Rank>(slot & kNone);
    }
  }

  /// Merges the symbols ids[begin..] in place: as long as a neighbouring pair has a rank, the leftmost pair
  /// of the lowest rank becomes one symbol. n symbols take O(n log n).
  void apply(std::vector<TokenId>& ids, std::size_t begin) const;

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // its rank reads as kNone

  static std::uint64_t key_of(TokenId left, TokenId right) noexcept {
    return static_cast<std::uint64_t>(left) << kIdBits | static_cast<std::uint64_t>(right);
  }
  std::size_t home_of(std::uint64_t key) const noexcept {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
  }
  void apply_short(std::vector<TokenId>& ids, std::size_t begin) const;
  void apply_long(std::vector<TokenId>& ids, std::size_t begin) const;

  std::vector<std::uint64_t> slots_;
  std::vector<TokenId> merged_;  // by rank
  std::size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace gpt
