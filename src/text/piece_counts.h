// How often each piece of a text occurs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bounded_probe.h"

namespace gpt {

/// A hash table from pieces to counts, quick whatever the pieces are: bounded_probe.h. The pieces must outlive it.
class PieceCounts {
 public:
  PieceCounts() : slots_(1 << 12) {}

  /// `count` of at least 1.
  void add(std::string_view piece, std::int64_t count) {
    const std::uint64_t hash = hash_of(piece);
    const std::size_t position = position_of(piece, hash);
    if (position == kNowhere) {
      crowded_[piece] += count;
    } else if (slots_[position].count == 0) {
      slots_[position] = {piece, hash, count};
      if (2 * ++used_ > slots_.size()) grow();
    } else {
      slots_[position].count += count;
    }
  }

  template <class F>
  void each(F&& f) const {
    for (const Slot& slot : slots_)
      if (slot.count != 0) f(slot.piece, slot.count);
    for (const auto& [piece, count] : crowded_) f(piece, count);
  }
  std::size_t size() const noexcept { return used_ + crowded_.size(); }

  /// How many slots a look-up of the piece looks at.
  std::size_t slots_seen(std::string_view piece) const noexcept {
    const std::uint64_t hash = hash_of(piece);
    return slots_to(position_of(piece, hash), hash, slots_.size() - 1);
  }

  static std::uint64_t hash_of(std::string_view piece) noexcept {
    std::uint64_t h = piece.size();
    const auto mix = [&h](std::uint64_t word) {
      h = (h ^ word) * 0x9E3779B97F4A7C15u;
      h ^= h >> 32;
    };
    for (; piece.size() >= 8; piece.remove_prefix(8)) {
      std::uint64_t word = 0;
      std::memcpy(&word, piece.data(), 8);
      mix(word);
    }
    std::uint64_t word = 0;
    if (!piece.empty()) std::memcpy(&word, piece.data(), piece.size());
    mix(word);
    return h;
  }

 private:
  struct Slot {
    std::string_view piece;
    std::uint64_t hash = 0;
    std::int64_t count = 0;  // 0: free
  };

  std::size_t position_of(std::string_view piece, std::uint64_t hash) const noexcept {
    return bounded_probe(hash, slots_.size() - 1, [&](std::size_t i) {
      const Slot& slot = slots_[i];
      return slot.count == 0 || (slot.hash == hash && slot.piece == piece);
    });
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    std::map<std::string_view, std::int64_t> crowded = std::exchange(crowded_, {});
    used_ = 0;
    const auto place = [&](const Slot& slot) {
      const std::size_t position = position_of(slot.piece, slot.hash);
      if (position == kNowhere) {
        crowded_.emplace(slot.piece, slot.count);
      } else {
        slots_[position] = slot;
        ++used_;
      }
    };
    for (const Slot& slot : old)
      if (slot.count != 0) place(slot);
    // These may find a slot now, and a look-up that meets a free one looks no further.
    for (const auto& [piece, count] : crowded) place({piece, hash_of(piece), count});
  }

  std::vector<Slot> slots_;
  std::size_t used_ = 0;  // of the slots
  std::map<std::string_view, std::int64_t> crowded_;
};

}  // namespace gpt
