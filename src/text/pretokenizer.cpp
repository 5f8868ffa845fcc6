#include "text/pretokenizer.h"

#include <array>

#include "gpt/text/utf8.h"
#include "text/char_class.h"

namespace gpt {
namespace {

constexpr std::array<CharClass, 128> kAsciiClass = [] {
  std::array<CharClass, 128> table{};
  for (char c : {'\t', '\n', '\v', '\f', '\r', ' '}) table[static_cast<std::size_t>(c)] = CharClass::kSpace;
  for (std::size_t c = 'a'; c <= 'z'; ++c) table[c] = CharClass::kLetter;
  for (std::size_t c = 'A'; c <= 'Z'; ++c) table[c] = CharClass::kLetter;
  for (std::size_t c = '0'; c <= '9'; ++c) table[c] = CharClass::kNumber;
  return table;
}();

struct Char {
  CharClass char_class;
  std::size_t length;
};

CharClass class_of(const Utf8Prefix& c) {
  return c.kind == Utf8Prefix::Kind::kCharacter ? CharClassTable::instance().of(c.code_point)
                                                : CharClass::kOther;
}

Char read_non_ascii(std::string_view text) {
  const Utf8Prefix prefix = read_utf8(text);
  const bool whole = prefix.kind == Utf8Prefix::Kind::kCharacter;
  return {class_of(prefix), whole ? prefix.length : std::size_t{1}};
}

inline Char read_char(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {kAsciiClass[byte], 1};
  return read_non_ascii(text.substr(at));
}

// The end of the run of characters of one class that begins at `at`.
inline std::size_t end_of_run(std::string_view text, std::size_t at, CharClass of) {
  while (at < text.size()) {
    const Char next = read_char(text, at);
    if (next.char_class != of) break;
    at += next.length;
  }
  return at;
}

// The length of 's 't 're 've 'm 'll 'd after the apostrophe at the start of `text`, else 0.
std::size_t contraction_length(std::string_view text) {
  if (text.size() < 2) return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd': return 2;
    case 'r':
    case 'v': return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l': return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default: return 0;
  }
}

// \s+(?!\S)|\s+ : all of the white space, but its last character stays when something follows, unless it is
// the only one.
std::size_t white_space_length(std::string_view text) {
  std::size_t last = 0, end = 0;
  while (end < text.size()) {
    const Char next = read_char(text, end);
    if (next.char_class != CharClass::kSpace) return last > 0 ? last : end;
    last = end;
    end += next.length;
  }
  return end;
}

}  // namespace

std::size_t next_piece_length(std::string_view text) {
  if (text[0] == '\'')
    if (const std::size_t length = contraction_length(text)) return length;
  const std::size_t start = text[0] == ' ' && text.size() > 1 ? 1 : 0;
  const Char first = read_char(text, start);
  if (first.char_class == CharClass::kSpace) return white_space_length(text);
  return end_of_run(text, start + first.length, first.char_class);
}

bool is_certain_cut(std::string_view text, std::size_t at) {
  const Utf8Prefix after = read_utf8(text.substr(at));
  if (after.kind == Utf8Prefix::Kind::kIncomplete) return false;
  const CharClass before = class_of(read_last_utf8(text.substr(0, at)));
  return before != CharClass::kSpace && text[at - 1] != '\'' && before != class_of(after);
}

}  // namespace gpt
