#include "text/byte_map.h"

namespace gpt {
namespace {

constexpr std::size_t kMapped = 0x100 + 68;  // one above the last character of the map

constexpr std::array<std::int16_t, kMapped> kByteOfChar = [] {
  std::array<std::int16_t, kMapped> table{};
  for (auto& byte : table) byte = -1;
  for (std::size_t b = 0; b < 256; ++b) table[kCharOfByte[b]] = static_cast<std::int16_t>(b);
  return table;
}();

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    const char32_t c = kCharOfByte[static_cast<unsigned char>(byte)];
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {  // all are below U+0800
      out += static_cast<char>(0xC0 | (c >> 6));
      out += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return out;
}

bool append_spelled_bytes(std::string_view token, std::string& out) {
  const std::size_t start = out.size();
  for (std::size_t i = 0; i < token.size(); ++i) {
    // All characters of the map have one or two bytes.
    std::size_t c = static_cast<unsigned char>(token[i]);
    if (c >= 0xC2 && c < 0xE0 && i + 1 < token.size() &&
        (static_cast<unsigned char>(token[i + 1]) & 0xC0) == 0x80)
      c = (c & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
    else if (c >= 0x80)
      c = kMapped;
    if (c >= kMapped || kByteOfChar[c] < 0) {
      out.resize(start);
      out += token;
      return false;
    }
    out += static_cast<char>(kByteOfChar[c]);
  }
  return true;
}

}  // namespace gpt
