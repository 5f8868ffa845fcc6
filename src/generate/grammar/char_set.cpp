#include "generate/grammar/char_set.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace gpt::generate {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;

// The bytes of one character, most significant first.
ByteRanges bytes_of(char32_t c) {
  ByteRanges out;
  const auto put = [&out](char32_t byte) {
    out.bytes[out.size].first = out.bytes[out.size].last = static_cast<std::uint8_t>(byte);
    ++out.size;
  };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  if (c >= 0x80) put(0x80 | (c & 0x3F));
  return out;
}

// A range whose members have UTF-8 of one length: cut where the last bytes are not all of those that can be.
void split(char32_t first, char32_t last, std::vector<ByteRanges>& out) {
  for (unsigned bits = 6; bits <= 18 && last >= 0x80; bits += 6) {
    const char32_t mask = (char32_t{1} << bits) - 1;
    if ((first & ~mask) == (last & ~mask)) break;  // they share what stands before these bytes
    if ((first & mask) != 0) {
      split(first, first | mask, out);
      split((first | mask) + 1, last, out);
      return;
    }
    if ((last & mask) != mask) {
      split(first, (last & ~mask) - 1, out);
      split(last & ~mask, last, out);
      return;
    }
  }
  ByteRanges ranges = bytes_of(first);
  const ByteRanges end = bytes_of(last);
  for (unsigned i = 0; i < ranges.size; ++i) ranges.bytes[i].last = end.bytes[i].last;
  out.push_back(ranges);
}

}  // namespace

CharSet CharSet::all() { return of(0, kLast); }

CharSet CharSet::of(char32_t first, char32_t last) { return CharSet().add(first, last); }

CharSet CharSet::of(std::string_view ascii) {
  CharSet set;
  for (const char c : ascii)
    set.ranges_.push_back({static_cast<unsigned char>(c), static_cast<unsigned char>(c)});
  set.normalize();
  return set;
}

bool CharSet::contains(char32_t c) const noexcept {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), c,
                                      [](char32_t value, const Range& range) { return value < range.first; });
  return after != ranges_.begin() && c <= (after - 1)->last;
}

CharSet& CharSet::add(char32_t first, char32_t last) {
  if (first > last) return *this;
  ranges_.push_back({first, last});
  normalize();
  return *this;
}

CharSet& CharSet::add(std::span<const Range> ranges) {
  ranges_.insert(ranges_.end(), ranges.begin(), ranges.end());
  normalize();
  return *this;
}

CharSet& CharSet::add(const CharSet& other) { return add(std::span<const Range>(other.ranges_)); }

CharSet CharSet::complement() const {
  CharSet out;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLast) out.ranges_.push_back({next, kLast});
  out.normalize();
  return out;
}

CharSet CharSet::without(const CharSet& other) const { return CharSet(complement()).add(other).complement(); }

void CharSet::normalize() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  std::vector<Range> out;
  const auto put = [&out](char32_t first, char32_t last) {
    if (first > last) return;
    if (!out.empty() && first <= out.back().last + 1)
      out.back().last = std::max(out.back().last, last);
    else
      out.push_back({first, last});
  };
  for (const Range& range : ranges_) {
    put(range.first, std::min<char32_t>(range.last, kFirstSurrogate - 1));
    put(std::max<char32_t>(range.first, kLastSurrogate + 1), range.last);
  }
  ranges_ = std::move(out);
}

CharSet digits() { return CharSet::of('0', '9'); }

CharSet word_chars() { return CharSet::of('0', '9').add('A', 'Z').add('_', '_').add('a', 'z'); }

CharSet ascii_space() { return CharSet::of(" \t\n\r\f\v"); }

CharSet white_space() {
  // The property White_Space, the separators that some take for it, and U+FEFF, which ECMA-262 does.
  return CharSet::of(0x09, 0x0D)
      .add(0x1C, 0x20)
      .add(0x85, 0x85)
      .add(0xA0, 0xA0)
      .add(0x1680, 0x1680)
      .add(0x180E, 0x180E)
      .add(0x2000, 0x200A)
      .add(0x2028, 0x2029)
      .add(0x202F, 0x202F)
      .add(0x205F, 0x205F)
      .add(0x3000, 0x3000)
      .add(0xFEFF, 0xFEFF);
}

bool add_category(std::string_view name, CharSet& set) {
  static constexpr std::string_view kNames[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                                "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                                "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"};
  const auto matches = [name](std::string_view category) {
    return category == name || (name.size() == 1 && category.front() == name.front());
  };
  if (name.empty() || std::none_of(std::begin(kNames), std::end(kNames), matches)) return false;
  std::vector<CharSet::Range> found;
  char32_t first = 0;
  bool inside = false;
  for (char32_t c = 0; c <= CharSet::kLast + 1; ++c) {
    const bool in =
        c <= CharSet::kLast && matches(utf8proc_category_string(static_cast<utf8proc_int32_t>(c)));
    if (in && !inside) first = c;
    if (!in && inside) found.push_back({first, c - 1});
    inside = in;
  }
  set.add(std::span<const CharSet::Range>(found));
  return true;
}

std::vector<ByteRanges> utf8_sequences(CharSet::Range range) {
  std::vector<ByteRanges> out;
  constexpr char32_t kEnds[] = {0x7F, 0x7FF, kFirstSurrogate - 1, 0xFFFF, CharSet::kLast};
  char32_t begin = 0;
  for (const char32_t end : kEnds) {
    if (begin == kFirstSurrogate) begin = kLastSurrogate + 1;
    if (range.first <= end && range.last >= begin)
      split(std::max(range.first, begin), std::min(range.last, end), out);
    begin = end + 1;
  }
  return out;
}

}  // namespace gpt::generate
