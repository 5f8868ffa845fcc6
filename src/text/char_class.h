// The classes of characters that GPT-2's pattern tells apart.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace gpt {

enum class CharClass : std::uint8_t { kOther, kSpace, kLetter, kNumber };

/// Letters are the general categories L*, numbers N*, spaces the property White_Space. One byte per code
/// point, equal pages of 256 stored once.
class CharClassTable {
 public:
  /// The table of all Unicode, made at the first call.
  static const CharClassTable& instance();

  CharClass of(char32_t code_point) const noexcept {
    return pages_[page_of_[code_point >> 8]][code_point & 0xFF];
  }

 private:
  using Page = std::array<CharClass, 256>;
  CharClassTable();

  std::array<std::uint16_t, 0x110000 / 256> page_of_{};
  std::vector<Page> pages_;
};

/// Rust's \w, which decides where a single_word token may stand (Unicode UTS #18, annex C): Alphabetic,
/// marks, decimal numbers, connector punctuation and join controls.
bool is_word_char(char32_t code_point) noexcept;

}  // namespace gpt
