// UTF-8: well-formedness, and what becomes of bytes that are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gpt {

/// The start of a byte string, read as UTF-8.
struct Utf8Prefix {
  enum class Kind : std::uint8_t {
    kCharacter,   // a well-formed sequence
    kIllFormed,   // a maximal subpart of an ill-formed sequence (or one byte that can start none)
    kIncomplete,  // a proper prefix of a well-formed sequence, ended by the end of the text
  };
  Kind kind = Kind::kIllFormed;
  std::uint8_t length = 0;  // bytes it takes, 1..4
  char32_t code_point = 0;  // of a character
};

/// Reads the first character of `text`, which must not be empty (The Unicode Standard, table 3-7, and the
/// maximal subparts of its section 3.9).
Utf8Prefix read_utf8(std::string_view text) noexcept;

/// Reads the last character of `text`, which must not be empty: a well-formed sequence that ends it, else one byte as
/// kIllFormed. What stands before the text cannot change the answer unless the text begins inside a character.
Utf8Prefix read_last_utf8(std::string_view text) noexcept;

/// The text with one U+FFFD for each maximal subpart of an ill-formed sequence, as the WHATWG encoding
/// standard and Python's errors="replace" decode it. Well-formed text comes back unchanged.
std::string replace_invalid_utf8(std::string_view text);

/// True when all of the text is well-formed.
bool is_valid_utf8(std::string_view text) noexcept;

}  // namespace gpt
