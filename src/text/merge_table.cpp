#include "text/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <queue>

namespace gpt {
namespace {

constexpr std::size_t kShort = 64;  // up to here searching all pairs for the lowest rank beats a heap

}  // namespace

MergeTable::MergeTable(std::size_t count) : slots_(std::bit_ceil(2 * count + 2), kEmpty) {
  mask_ = slots_.size() - 1;
  shift_ = 64 - std::countr_zero(slots_.size());
  merged_.reserve(count);
}

void MergeTable::add(TokenId left, TokenId right, TokenId merged) {
  const std::uint64_t key = key_of(left, right);
  const std::size_t position = position_of(key);
  if (position == kNowhere)
    crowded_.insert_or_assign(key, static_cast<Rank>(merged_.size()));
  else
    slots_[position] = key << kRankBits | merged_.size();
  merged_.push_back(merged);
}

MergeTable::Rank MergeTable::crowded_rank_of(std::uint64_t key) const noexcept {
  const auto found = crowded_.find(key);
  return found == crowded_.end() ? kNone : found->second;
}

void MergeTable::apply(std::vector<TokenId>& ids, std::size_t begin) const {
  const std::size_t n = ids.size() - begin;
  if (n < 2) return;
  if (n <= kShort)
    apply_short(ids, begin);
  else
    apply_long(ids, begin);
}

void MergeTable::apply_short(std::vector<TokenId>& ids, std::size_t begin) const {
  TokenId* symbol = ids.data() + begin;
  std::size_t n = ids.size() - begin;
  std::array<Rank, kShort> rank;  // of symbol i and the next
  for (std::size_t i = 0; i + 1 < n; ++i) rank[i] = rank_of(symbol[i], symbol[i + 1]);
  while (n > 1) {
    const auto lowest = std::min_element(rank.begin(), rank.begin() + static_cast<std::ptrdiff_t>(n - 1));
    if (*lowest == kNone) break;
    const auto i = static_cast<std::size_t>(lowest - rank.begin());
    symbol[i] = merged_[*lowest];
    std::copy(symbol + i + 2, symbol + n, symbol + i + 1);
    std::copy(lowest + 1, rank.begin() + static_cast<std::ptrdiff_t>(n - 1), lowest);
    --n;
    if (i > 0) rank[i - 1] = rank_of(symbol[i - 1], symbol[i]);
    if (i + 1 < n) rank[i] = rank_of(symbol[i], symbol[i + 1]);
  }
  ids.resize(begin + n);
}

void MergeTable::apply_long(std::vector<TokenId>& ids, std::size_t begin) const {
  struct Node {
    std::size_t previous, next;
    Rank rank;  // of this symbol and the next
  };
  struct Candidate {
    Rank rank;
    std::size_t at;
    bool operator>(const Candidate& other) const noexcept {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  TokenId* symbol = ids.data() + begin;
  const std::size_t n = ids.size() - begin;
  std::vector<Node> nodes(n);
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < n; ++i) {
    const Rank rank = i + 1 < n ? rank_of(symbol[i], symbol[i + 1]) : kNone;
    nodes[i] = {i - 1, i + 1, rank};  // the previous of the first is never read
    if (rank != kNone) candidates.push_back({rank, i});
  }
  std::priority_queue heap(std::greater<>{}, std::move(candidates));

  const auto update = [&](std::size_t i) {
    const std::size_t next = nodes[i].next;
    nodes[i].rank = next < n ? rank_of(symbol[i], symbol[next]) : kNone;
    if (nodes[i].rank != kNone) heap.push({nodes[i].rank, i});
  };
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    const std::size_t i = best.at;
    if (nodes[i].rank != best.rank) continue;  // one of its symbols has been merged since
    const std::size_t gone = nodes[i].next, next = nodes[gone].next;
    symbol[i] = merged_[best.rank];
    nodes[gone].rank = kNone;
    nodes[i].next = next;
    if (next < n) nodes[next].previous = i;
    update(i);
    if (i > 0) update(nodes[i].previous);
  }

  std::size_t out = 0;
  for (std::size_t i = 0; i < n; i = nodes[i].next) symbol[out++] = symbol[i];
  ids.resize(begin + out);
}

}  // namespace gpt
