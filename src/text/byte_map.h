// GPT-2's spelling of bytes as printable characters (bytes_to_unicode in encoder.py of openai/gpt-2).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gpt {

/// The character for each byte: 33..126, 161..172 and 174..255 stand for themselves, the others are U+0100
/// on.
inline constexpr std::array<char32_t, 256> kCharOfByte = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    table[b] = itself ? b : next++;
  }
  return table;
}();

/// Bytes in GPT-2's spelling, as UTF-8.
std::string spell_bytes(std::string_view bytes);

/// Appends to `out` the bytes that a token spells. A token with a character outside the map stands for its
/// own UTF-8, as the tokenizers library decodes it; false is returned then.
bool append_spelled_bytes(std::string_view token, std::string& out);

}  // namespace gpt
