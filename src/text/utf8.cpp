#include "gpt/text/utf8.h"

#include "core/memory.h"

namespace gpt {

Utf8Prefix read_utf8(std::string_view text) noexcept {
  using Kind = Utf8Prefix::Kind;
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Kind::kCharacter, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::kIllFormed, 1, 0};

  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code_point = lead & (0x7Fu >> length);
  for (unsigned i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, static_cast<std::uint8_t>(i), 0};
    const unsigned next = byte(i);
    if (next < low || next > high) return {Kind::kIllFormed, static_cast<std::uint8_t>(i), 0};
    code_point = (code_point << 6) | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kCharacter, static_cast<std::uint8_t>(length), code_point};
}

Utf8Prefix read_last_utf8(std::string_view text) noexcept {
  std::size_t length = 1;
  while (length < 4 && length < text.size() &&
         (static_cast<unsigned char>(text[text.size() - length]) & 0xC0) == 0x80)
    ++length;
  const Utf8Prefix prefix = read_utf8(text.substr(text.size() - length));
  if (prefix.kind == Utf8Prefix::Kind::kCharacter && prefix.length == length) return prefix;
  return {Utf8Prefix::Kind::kIllFormed, 1, 0};
}

std::string replace_invalid_utf8(std::string_view text) try {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Prefix prefix = read_utf8(text);
    if (prefix.kind == Utf8Prefix::Kind::kCharacter)
      out += text.substr(0, prefix.length);
    else
      out += "\xEF\xBF\xBD";
    text.remove_prefix(prefix.length);
  }
  return out;
} catch (...) {
  rethrow_with_memory_errors("utf-8");
}

bool is_valid_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const Utf8Prefix prefix = read_utf8(text);
    if (prefix.kind != Utf8Prefix::Kind::kCharacter) return false;
    text.remove_prefix(prefix.length);
  }
  return true;
}

}  // namespace gpt
