#include "text/bert_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/text/utf8.h"
#include "text/char_class.h"

namespace gpt {
namespace {

utf8proc_category_t category(char32_t c) noexcept {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_white_space(char32_t c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' ||
         (c >= 0x80 && CharClassTable::instance().of(c) == CharClass::kSpace);
}

// What the cleaning leaves out; \t, \n and \r are white space here, unlike the other control characters.
bool is_dropped(char32_t c) {
  if (c == 0 || c == 0xFFFD) return true;
  if (c < 0x80) return (c < 0x20 && !is_white_space(c)) || c == 0x7F;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN: return true;
    default: return false;
  }
}

// The blocks that count as CJK ideographs. Extension E begins at U+2B820, but not in huggingface/tokenizers.
bool is_ideograph(char32_t c) noexcept {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kBlocks{{{0x4E00, 0x9FFF},
                                                                  {0x3400, 0x4DBF},
                                                                  {0x20000, 0x2A6DF},
                                                                  {0x2A700, 0x2B73F},
                                                                  {0x2B740, 0x2B81F},
                                                                  {0x2B920, 0x2CEAF},
                                                                  {0xF900, 0xFAFF},
                                                                  {0x2F800, 0x2FA1F}}};
  return std::any_of(kBlocks.begin(), kBlocks.end(),
                     [c](const auto& block) { return c >= block.first && c <= block.second; });
}

bool is_punctuation(char32_t c) noexcept {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  switch (category(c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return true;
    default: return false;
  }
}

void append(std::string& out, char32_t c) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out.append(bytes, bytes + length);
}

// Cleaning, and spaces around ideographs.
std::string clean(std::string_view text, bool separate_ideographs) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  while (!text.empty()) {
    const Utf8Prefix c = read_utf8(text);
    const std::string_view bytes = text.substr(0, c.length);
    text.remove_prefix(c.length);
    if (c.kind != Utf8Prefix::Kind::kCharacter || is_dropped(c.code_point)) continue;
    if (is_white_space(c.code_point))
      out += ' ';
    else if (separate_ideographs && is_ideograph(c.code_point))
      out.append(" ").append(bytes).append(" ");
    else
      out += bytes;
  }
  return out;
}

// NFD without nonspacing marks. Those go before the marks of a character are put in order, so that a long row of them
// takes no more time than other text.
std::string without_accents(std::string_view text) {
  constexpr auto kHow = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  struct Mark {
    utf8proc_propval_t combining_class;
    char32_t c;
  };
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> marks;  // since the last character that is none
  const auto put_marks = [&] {
    std::stable_sort(marks.begin(), marks.end(),
                     [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    for (const Mark& mark : marks) append(out, mark.c);
    marks.clear();
  };
  while (!text.empty()) {
    const Utf8Prefix next = read_utf8(text);
    text.remove_prefix(next.length);
    std::array<utf8proc_int32_t, 16> parts;  // the longest decomposition has 4
    int last_boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(next.code_point), parts.data(),
                                static_cast<utf8proc_ssize_t>(parts.size()), kHow, &last_boundary);
    if (count < 0) fail<ArgumentError>("encode", "the text cannot be decomposed: ", utf8proc_errmsg(count));
    for (const utf8proc_int32_t part : std::span(parts).first(static_cast<std::size_t>(count))) {
      const auto combining_class = utf8proc_get_property(part)->combining_class;
      if (combining_class == 0) put_marks();
      if (utf8proc_category(part) == UTF8PROC_CATEGORY_MN) continue;
      if (combining_class == 0)
        append(out, static_cast<char32_t>(part));
      else
        marks.push_back({combining_class, static_cast<char32_t>(part)});
    }
  }
  put_marks();
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Prefix c = read_utf8(text);
    text.remove_prefix(c.length);
    if (c.code_point == 0x130)  // the one character whose lower case is two: i with a dot above
      out += "i\xCC\x87";
    else if (c.code_point < 0x80)
      out += static_cast<char>(c.code_point >= 'A' && c.code_point <= 'Z' ? c.code_point + 32 : c.code_point);
    else
      append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code_point))));
  }
  return out;
}

}  // namespace

std::string normalize_for_bert(std::string_view text, const BertNormalization& how) {
  std::string out = clean(text, how.separate_ideographs);
  const bool is_ascii = std::none_of(out.begin(), out.end(), [](char c) { return (c & 0x80) != 0; });
  if (how.strip_accents && !is_ascii) out = without_accents(out);
  if (how.lowercase) out = to_lower(out);
  return out;
}

std::string_view take_bert_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::size_t end = 0;
  while (end < text.size()) {
    const Utf8Prefix c = read_utf8(text.substr(end));
    if (c.code_point == ' ') break;
    if (is_punctuation(c.code_point)) {
      if (end == 0) end = c.length;
      break;
    }
    end += c.length;
  }
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

}  // namespace gpt
