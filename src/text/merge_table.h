// The merges of a byte-pair encoding, by the pair of ids, and their application.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "gpt/core/token.h"
#include "text/bounded_probe.h"

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

  /// The rank of a pair, or kNone. Quick whatever the pairs are: bounded_probe.h.
  Rank rank_of(TokenId left, TokenId right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    const std::size_t position = position_of(key);
    return position == kNowhere ? crowded_rank_of(key) : static_cast<Rank>(slots_[position] & kNone);
  }

  /// How many slots a look-up of the pair looks at.
  std::size_t slots_seen(TokenId left, TokenId right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    return slots_to(position_of(key), home_of(key), mask_);
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
  // Where the pair is, or the free slot where it belongs.
  std::size_t position_of(std::uint64_t key) const noexcept {
    return bounded_probe(home_of(key), mask_,
                         [&](std::size_t i) { return slots_[i] >> kRankBits == key || slots_[i] == kEmpty; });
  }
  Rank crowded_rank_of(std::uint64_t key) const noexcept;
  void apply_short(std::vector<TokenId>& ids, std::size_t begin) const;
  void apply_long(std::vector<TokenId>& ids, std::size_t begin) const;

  std::vector<std::uint64_t> slots_;
  std::vector<TokenId> merged_;            // by rank
  std::map<std::uint64_t, Rank> crowded_;  // by key
  std::size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace gpt
