#include "core/quote.h"

namespace gpt {

std::string quote(std::string_view text) {
  constexpr std::size_t kLimit = 100;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::size_t end = text.size();
  if (end > kLimit) {
    end = kLimit;
    while (end > kLimit - 4 && (text[end] & '\xc0') == '\x80') --end;  // not inside a UTF-8 character
  }
  std::string out = "\"";
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += end < text.size() ? "...\"" : "\"";
  return out;
}

}  // namespace gpt
