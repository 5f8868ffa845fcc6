#include "text/char_class.h"

#include <utf8proc.h>

#include <algorithm>

namespace gpt {
namespace {

// The property White_Space, which is not a general category (U+0085 is a control, U+200B is none).
bool has_white_space_property(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

CharClass class_of(char32_t c) noexcept {
  // Planes 4 to 13 are unassigned, 15 and 16 for private use: not worth two thirds of the table's time.
  if (c >= 0x40000 && c >> 16 != 14) return CharClass::kOther;
  if (has_white_space_property(c)) return CharClass::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return CharClass::kNumber;
    default: return CharClass::kOther;
  }
}

}  // namespace

const CharClassTable& CharClassTable::instance() {
  static const CharClassTable table;
  return table;
}

CharClassTable::CharClassTable() {
  for (std::size_t p = 0; p < page_of_.size(); ++p) {
    Page page;
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = class_of(static_cast<char32_t>(p * 256 + i));
    // From the back: the many equal pages are neighbours.
    const auto same = std::find(pages_.rbegin(), pages_.rend(), page);
    page_of_[p] = static_cast<std::uint16_t>(pages_.rend() - same - 1);
    if (same != pages_.rend()) continue;
    page_of_[p] = static_cast<std::uint16_t>(pages_.size());
    pages_.push_back(page);
  }
}

bool is_word_char(char32_t c) noexcept {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC: return true;
    default:
      // Join controls, and the circled and squared letters that are Other_Alphabetic though symbols.
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  }
}

}  // namespace gpt
