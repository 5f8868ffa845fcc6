// Sets of characters, and the UTF-8 of their members.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gpt::generate {

/// The value of a hexadecimal digit, -1 of any other character.
constexpr int hexadecimal_digit(char c) noexcept {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/// A set of Unicode scalar values: code points but the surrogates, which UTF-8 does not have.
class CharSet {
 public:
  struct Range {
    char32_t first = 0, last = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };
  static constexpr char32_t kLast = 0x10FFFF;

  CharSet() = default;
  static CharSet all();
  static CharSet of(char32_t first, char32_t last);
  /// Every character of an ASCII text.
  static CharSet of(std::string_view ascii);

  /// In increasing order, none touching another.
  const std::vector<Range>& ranges() const noexcept { return ranges_; }
  bool empty() const noexcept { return ranges_.empty(); }
  bool contains(char32_t c) const noexcept;

  CharSet& add(char32_t first, char32_t last);
  CharSet& add(std::span<const Range> ranges);
  CharSet& add(const CharSet& other);
  CharSet complement() const;
  CharSet without(const CharSet& other) const;

 private:
  void normalize();

  std::vector<Range> ranges_;
};

/// The classes \d, \w and \s as ECMA-262 has them but for \s, which is ASCII's white space alone: what a class adds is then
/// white space to every reader. `white_space` is what any reader takes for it: what \S leaves out, and \s in a negated class.
CharSet digits();
CharSet word_chars();
CharSet ascii_space();
CharSet white_space();

/// The characters of a general category of Unicode, "L" or "Lu". False when there is none of that name.
bool add_category(std::string_view name, CharSet& set);

/// Bytes from `first` to `last`, one position of a character's UTF-8.
struct ByteRange {
  std::uint8_t first = 0, last = 0;
};

/// One to four of them: the UTF-8 of some characters.
struct ByteRanges {
  ByteRange bytes[4];
  unsigned size = 0;
};

/// The UTF-8 of a range of characters: every one of them is in one of the results, and nothing else is.
std::vector<ByteRanges> utf8_sequences(CharSet::Range range);

}  // namespace gpt::generate
