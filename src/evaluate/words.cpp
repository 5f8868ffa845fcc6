#include "evaluate/words.h"

#include <algorithm>

#include "core/memory.h"
#include "gpt/evaluate/text_metrics.h"
#include "text/char_class.h"

namespace gpt {
namespace evaluate {

bool is_space(const Utf8Prefix& c) {
  if (c.kind != Utf8Prefix::Kind::kCharacter) return false;
  // Python adds the separators of files, groups, records and units to Unicode's white space.
  return (c.code_point >= 0x1C && c.code_point <= 0x1F) ||
         CharClassTable::instance().of(c.code_point) == CharClass::kSpace;
}

std::string_view without_space_at_start(std::string_view text) {
  while (!text.empty()) {
    const Utf8Prefix first = read_utf8(text);
    if (!is_space(first)) break;
    text.remove_prefix(first.length);
  }
  return text;
}

std::string_view without_space_at_end(std::string_view text) {
  while (!text.empty()) {
    const Utf8Prefix last = read_last_utf8(text);
    if (!is_space(last)) break;
    text.remove_suffix(last.length);
  }
  return text;
}

std::vector<std::string> split_at_space(std::string_view text) {
  std::vector<std::string> words;
  for (text = without_space_at_start(text); !text.empty(); text = without_space_at_start(text)) {
    std::size_t size = 0;
    while (size < text.size()) {
      const Utf8Prefix c = read_utf8(text.substr(size));
      if (is_space(c)) break;
      size += c.length;
    }
    words.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return words;
}

bool NGramLess::operator()(NGram a, NGram b) const noexcept {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

NGramCounts count_ngrams(std::span<const std::string> words, std::size_t n) {
  NGramCounts counts;
  for (std::size_t i = 0; i + n <= words.size(); ++i) ++counts[words.subspan(i, n)];
  return counts;
}

}  // namespace evaluate

namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_point(char c) noexcept { return c == '.' || c == ','; }

/// ASCII's punctuation but for ' , - and .
bool is_symbol(char c) noexcept {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
         (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/// Appends what a rule makes of two neighbours that it is about, and goes over both, as regular expressions do.
template <class Matches, class Write>
std::string replace_pairs(std::string_view text, Matches&& matches, Write&& write) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && matches(text[i], text[i + 1])) {
      write(out, text[i], text[i + 1]);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// The part that 13a and zh share. Bytes do for characters: where one beyond ASCII is next to a point, so is one of its bytes.
std::vector<std::string> split_punctuation(std::string_view text) {
  std::string apart;
  for (const char c : text) {
    if (is_symbol(c))
      apart.append({' ', c, ' '});
    else
      apart += c;
  }
  apart = replace_pairs(
      apart, [](char a, char b) { return !is_digit(a) && is_point(b); },
      [](std::string& out, char a, char b) {
        out.append({a, ' ', b, ' '});
      });
  apart = replace_pairs(
      apart, [](char a, char b) { return is_point(a) && !is_digit(b); },
      [](std::string& out, char a, char b) {
        out.append({' ', a, ' ', b});
      });
  apart = replace_pairs(
      apart, [](char a, char b) { return is_digit(a) && b == '-'; },
      [](std::string& out, char a, char b) {
        out.append({a, ' ', b, ' '});
      });
  return evaluate::split_at_space(apart);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

std::vector<std::string> split_13a(std::string_view text) {
  std::string line(evaluate::without_space_at_end(text));
  replace_all(line, "<skipped>", "");
  replace_all(line, "-\n", "");
  replace_all(line, "\n", " ");
  replace_all(line, "&quot;", "\"");
  replace_all(line, "&amp;", "&");
  replace_all(line, "&lt;", "<");
  replace_all(line, "&gt;", ">");
  return split_punctuation(concat(" ", line, " "));
}

/// As sacrebleu's code decides, which compares strings: two ranges that were meant to be beyond U+FFFF are U+2001 to U+2A6D and
/// a part of the radicals.
bool is_chinese(char32_t c) noexcept {
  constexpr struct {
    char32_t first, last;
  } kRanges[] = {{0x2001, 0x2A6D}, {0x2E80, 0x2FDF}, {0x2FF0, 0x303F}, {0x3100, 0x312F}, {0x31A0, 0x31BF},
                 {0x31C0, 0x31EF}, {0x3200, 0x4DB5}, {0x4E00, 0x9FBB}, {0xF900, 0xFA2D}, {0xFA30, 0xFA6A},
                 {0xFA70, 0xFAD9}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F}, {0xFF00, 0xFFEF}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return range.first <= c && c <= range.last; });
}

std::vector<std::string> split_zh(std::string_view text) {
  text = evaluate::without_space_at_start(evaluate::without_space_at_end(text));
  std::string apart;
  while (!text.empty()) {
    const Utf8Prefix c = read_utf8(text);
    const std::string_view character = text.substr(0, c.length);
    if (c.kind == Utf8Prefix::Kind::kCharacter && is_chinese(c.code_point))
      apart += concat(" ", character, " ");
    else
      apart += character;
    text.remove_prefix(c.length);
  }
  return split_punctuation(apart);
}

}  // namespace

std::vector<std::string> split_words(std::string_view text, WordRule rule) {
  return with_memory_errors("split_words", [&] {
    switch (rule) {
      case WordRule::k13a: return split_13a(text);
      case WordRule::kZh: return split_zh(text);
      case WordRule::kNone: break;
    }
    return evaluate::split_at_space(text);
  });
}

}  // namespace gpt
