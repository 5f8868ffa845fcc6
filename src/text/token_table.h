// A hash table from strings to token ids.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "text/bounded_probe.h"

namespace gpt {

/// Open addressing with linear probing, at most half full. A slot holds up to eight bytes of its key, which are
/// all of most tokens, so that a look-up seldom touches other memory. It is quick whatever the keys are: bounded_probe.h. Keys must
/// outlive the table.
class TokenTable {
 public:
  explicit TokenTable(std::size_t capacity) : slots_(std::bit_ceil(2 * capacity + 2)), keys_(slots_.size()) {}

  /// False when the key is there already.
  bool insert(std::string_view key, TokenId id) {
    const std::size_t position = position_of(key);
    if (position == kNowhere) return crowded_.emplace(key, id).second;
    Slot& slot = slots_[position];
    if (slot.id >= 0) return false;
    slot = {head_of(key), static_cast<std::uint32_t>(key.size()), id};
    keys_[position] = key;
    return true;
  }

  /// -1 when there is no such key.
  TokenId find(std::string_view key) const noexcept {
    const std::size_t position = position_of(key);
    if (position != kNowhere) return slots_[position].id;
    const auto found = crowded_.find(key);
    return found == crowded_.end() ? -1 : found->second;
  }

  /// How many slots a look-up of the key looks at.
  std::size_t slots_seen(std::string_view key) const noexcept {
    const std::size_t position = position_of(key);
    return slots_to(position, hash_of(key), slots_.size() - 1);
  }

  static std::uint64_t hash_of(std::string_view key) noexcept { return hash(head_of(key), key); }

 private:
  struct Slot {
    std::uint64_t head = 0;
    std::uint32_t length = 0;  // its low 32 bits, which tell short keys apart
    TokenId id = -1;
  };

  static std::uint64_t load(const char* from, std::size_t size) noexcept {
    std::uint64_t bits = 0;
    std::memcpy(&bits, from, size);
    return bits;
  }

  // The first eight bytes, or all of fewer: together with the length no two short keys have the same.
  static std::uint64_t head_of(std::string_view key) noexcept {
    const char* p = key.data();
    const std::size_t n = key.size();
    if (n >= 8) return load(p, 8);
    if (n >= 4) return load(p, 4) | load(p + n - 4, 4) << 32;
    if (n == 0) return 0;
    return load(p, 1) | load(p + n / 2, 1) << 8 | load(p + n - 1, 1) << 16;  // one to three bytes
  }

  static std::uint64_t hash(std::uint64_t head, std::string_view key) noexcept {
    const auto mix = [](std::uint64_t h) { return (h ^ (h >> 32)) * 0x9E3779B97F4A7C15u; };
    const std::size_t n = key.size();
    std::uint64_t h = mix(head + n);
    if (n > 8) {
      for (std::size_t i = 8; i + 8 < n; i += 8) h = mix(h ^ load(key.data() + i, 8));
      h = mix(h ^ load(key.data() + n - 8, 8));  // may overlap what came before
    }
    return h ^ (h >> 32);
  }

  // Where the key is, or the free slot where it belongs; kNowhere when neither is near.
  std::size_t position_of(std::string_view key) const noexcept {
    const std::uint64_t head = head_of(key);
    return bounded_probe(hash(head, key), slots_.size() - 1, [&](std::size_t i) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return true;
      if (slot.head != head || slot.length != static_cast<std::uint32_t>(key.size())) return false;
      return key.size() <= 8 || keys_[i] == key;
    });
  }

  std::vector<Slot> slots_;
  std::vector<std::string_view> keys_;  // by slot
  std::map<std::string_view, TokenId> crowded_;
};

}  // namespace gpt
