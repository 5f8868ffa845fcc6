// The pairs of symbols that stand side by side in the words that a BPE is trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "gpt/core/token.h"
#include "text/bounded_probe.h"

namespace gpt {

/// A pair of symbols, and the words where it may be.
struct SymbolPair {
  TokenId left = -1, right = -1;
  TokenId merged = -1;  // what it became; -1: it has not merged
  std::int64_t count = 0;
  std::int64_t changed_by = -1;           // the last merge that made it more frequent
  std::vector<std::uint32_t> words = {};  // ascending from merge to merge; some may have lost it
};

/// All pairs, each with a number. A look-up is quick whatever the pairs are: bounded_probe.h.
class SymbolPairs {
 public:
  SymbolPairs() : slots_(1 << 12, kFree) {}

  /// The number of a pair, made when it is new.
  std::uint32_t number_of(TokenId left, TokenId right) {
    const auto next = static_cast<std::uint32_t>(pairs_.size());
    const std::uint32_t number = place(left, right, next);
    if (number != next) return number;
    pairs_.push_back({.left = left, .right = right});
    if (2 * pairs_.size() > slots_.size()) grow();
    return number;
  }
  SymbolPair& operator[](std::uint32_t number) noexcept { return pairs_[number]; }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(pairs_.size()); }

  /// How many slots a look-up of the pair looks at.
  std::size_t slots_seen(TokenId left, TokenId right) const noexcept {
    return slots_to(position_of(left, right), home_of(left, right), slots_.size() - 1);
  }

  /// Its low bits are the place of a pair.
  static std::size_t home_of(TokenId left, TokenId right) noexcept {
    const std::uint64_t key = static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 20);
  }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};

  std::size_t position_of(TokenId left, TokenId right) const noexcept {
    return bounded_probe(home_of(left, right), slots_.size() - 1, [&](std::size_t i) {
      return slots_[i] == kFree || (pairs_[slots_[i]].left == left && pairs_[slots_[i]].right == right);
    });
  }
  // The number that the pair has, else `number`, which it has from now on.
  std::uint32_t place(TokenId left, TokenId right, std::uint32_t number) {
    const std::size_t position = position_of(left, right);
    if (position == kNowhere) return crowded_.try_emplace({left, right}, number).first->second;
    return slots_[position] == kFree ? slots_[position] = number : slots_[position];
  }
  void grow() {
    slots_.assign(2 * slots_.size(), kFree);
    crowded_.clear();
    for (std::uint32_t number = 0; number < size(); ++number)
      place(pairs_[number].left, pairs_[number].right, number);
  }

  std::vector<std::uint32_t> slots_;
  std::vector<SymbolPair> pairs_;
  std::map<std::pair<TokenId, TokenId>, std::uint32_t> crowded_;
};

}  // namespace gpt
