#include "generate/grammar/regex.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/utf8.h"

namespace gpt::generate {
namespace {

constexpr std::size_t kMaxPattern = 65536;

class RegexParser {
 public:
  RegexParser(Rules& rules, std::string_view pattern, std::string_view where, const RegexOptions& options)
      : rules_(rules), text_(pattern), where_(where), options_(options) {}

  Rules::Node parse() {
    if (text_.size() > kMaxPattern)
      fail<ArgumentError>(where_, "the pattern has ", text_.size(), " bytes, more than the limit of ",
                          kMaxPattern);
    if (!is_valid_utf8(text_)) fail<FormatError>(where_, "the pattern is not valid UTF-8");
    const Rules::Node all = alternatives();
    if (at_ < text_.size()) bad("a ) without its (");  // nothing else stops the alternatives
    return all;
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    fail<FormatError>(where_, "in the pattern ", quote(text_), ", at byte ", at_, ": ", what);
  }
  [[noreturn]] void refuse(std::string_view what) const {
    fail<UnsupportedError>(where_, "in the pattern ", quote(text_), ", at byte ", at_, ": ", what,
                           " is not supported");
  }

  bool more() const noexcept { return at_ < text_.size(); }
  bool sees(std::string_view what) const noexcept { return text_.substr(at_).starts_with(what); }
  bool take(std::string_view what) noexcept {
    if (!sees(what)) return false;
    at_ += what.size();
    return true;
  }
  char32_t take_character() noexcept {
    const Utf8Prefix character = read_utf8(text_.substr(at_));
    at_ += character.length;
    return character.code_point;
  }

  Rules::Node one_of(const CharSet& set) {
    return options_.encode ? options_.encode(rules_, set) : rules_.set(set);
  }
  Rules::Node anything() { return rules_.repeat(one_of(CharSet::all()), 0); }

  Rules::Node alternatives() {
    std::vector<Rules::Node> all;
    do {
      all.push_back(sequence());
    } while (take("|"));
    return rules_.choice(std::move(all));
  }

  // At the top, ^ may begin a sequence and $ end it: elsewhere they would say something of the text around them.
  Rules::Node sequence() {
    std::vector<Rules::Node> parts;
    const bool is_top = depth_ == 0;
    const bool bound = is_top && take("^");
    if (is_top && options_.is_search && !bound) parts.push_back(anything());
    bool ended = false;
    while (more() && !sees("|") && !sees(")")) {
      if (is_top && sees("$") && (at_ + 1 == text_.size() || text_[at_ + 1] == '|')) {
        ++at_;
        ended = true;
        break;
      }
      parts.push_back(repeated());
    }
    if (is_top && options_.is_search && !ended) parts.push_back(anything());
    return rules_.sequence(std::move(parts));
  }

  Rules::Node repeated() {
    Rules::Node part = atom();
    for (bool first = true;; first = false) {
      std::uint32_t least = 0, most = Rules::kNoLimit;
      const std::size_t begin = at_;
      if (take("*")) {
      } else if (take("+")) {
        least = 1;
      } else if (take("?")) {
        most = 1;
      } else if (!sees("{") || !bounds(least, most)) {
        return part;
      }
      if (!first) {
        at_ = begin;
        bad("a quantifier behind a quantifier");
      }
      if (sees("+")) refuse("a possessive quantifier");
      take("?");  // lazy: another match is found first, but the same texts match
      part = rules_.repeat(part, least, most);
    }
  }

  // {m}, {m,} or {m,n}
  bool bounds(std::uint32_t& least, std::uint32_t& most) {
    ++at_;
    const auto low = number();
    if (!low) bad("expected a number after {; a brace itself is \\{");
    least = most = *low;
    if (take(",")) most = number().value_or(Rules::kNoLimit);
    if (!take("}")) bad("expected } after the numbers of repetitions");
    if (most < least) bad("the most repetitions are fewer than the least");
    return true;
  }

  std::optional<std::uint32_t> number() {
    std::optional<std::uint32_t> value;
    while (more() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = value.value_or(0) * 10 + static_cast<std::uint32_t>(text_[at_] - '0');
      if (*value > kMaxRepeat) bad(concat("more than ", kMaxRepeat, " repetitions, which is the limit"));
      ++at_;
    }
    return value;
  }

  Rules::Node atom() {
    if (sees("(")) return group();
    if (sees("[")) return one_of(bracket());
    if (sees("*") || sees("+") || sees("?") || sees("{")) bad("a quantifier with nothing before it");
    if (sees("^") || sees("$")) refuse(concat(text_.substr(at_, 1), " inside the pattern"));
    if (take(".")) return one_of(CharSet::of("\n\r").add(0x2028, 0x2029).complement());
    if (sees("\\")) return one_of(escape(Place::kOutside));
    const char32_t c = take_character();
    return one_of(CharSet::of(c, c));
  }

  Rules::Node group() {
    if (sees("(?=") || sees("(?!")) refuse("look-ahead");
    if (sees("(?<=") || sees("(?<!")) refuse("look-behind");
    if (sees("(?P=")) refuse("a back-reference");
    const std::size_t begin = at_;
    ++at_;
    if (take("?")) {
      if (take("P<") || take("<")) {
        while (more() && !sees(">")) ++at_;
        if (!take(">")) bad("expected > after the name of a group");
      } else if (!take(":")) {
        at_ = begin;
        refuse("a group with flags");
      }
    }
    if (++depth_ > kMaxGroupDepth) bad(concat("groups nested more than ", kMaxGroupDepth, " deep"));
    const Rules::Node inside = alternatives();
    --depth_;
    if (!take(")")) {
      at_ = begin;
      bad("a ( without its )");
    }
    return inside;
  }

  CharSet bracket() {
    const std::size_t begin = at_;
    ++at_;
    const bool is_negated = take("^");
    CharSet set;
    std::vector<CharSet::Range> ranges;  // added together, which takes less time than one by one
    while (!sees("]")) {
      if (!more()) {
        at_ = begin;
        bad("a [ without its ]");
      }
      if (sees("[:") || sees("[.") || sees("[=")) refuse("a POSIX class");
      bool is_class = false;
      const CharSet first = member(is_negated, is_class);
      if (sees("-") && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        const std::size_t dash = at_++;
        bool last_is_class = false;
        const CharSet last = member(is_negated, last_is_class);
        if (is_class || last_is_class || first.empty() || last.empty() ||
            first.ranges()[0].first > last.ranges()[0].first) {
          at_ = dash;
          bad("a range whose ends are not two characters in order");
        }
        ranges.push_back({first.ranges()[0].first, last.ranges()[0].first});
      } else {
        ranges.insert(ranges.end(), first.ranges().begin(), first.ranges().end());
      }
      if (ranges.size() < 65536 && !sees("]")) continue;
      set.add(std::span<const CharSet::Range>(ranges));
      ranges.clear();
    }
    ++at_;
    if (is_negated) set = set.complement();
    if (set.empty()) {
      at_ = begin;
      bad("a class without characters");
    }
    return set;
  }

  CharSet member(bool is_negated, bool& is_class) {
    if (sees("\\")) {
      const CharSet set = escape(is_negated ? Place::kNegatedClass : Place::kClass);
      is_class = set.ranges().size() != 1 || set.ranges()[0].first != set.ranges()[0].last;
      return set;
    }
    const char32_t c = take_character();
    return CharSet::of(c, c);
  }

  enum class Place { kOutside, kClass, kNegatedClass };

  CharSet escape(Place place) {
    const std::size_t begin = at_++;
    if (!more()) bad("a \\ at the end");
    const char c = text_[at_];
    const auto refuse_here = [&](std::string_view what) {
      at_ = begin;
      refuse(what);
    };
    if (c >= '1' && c <= '9') refuse_here("a back-reference");
    if (c == 'k') refuse_here("a back-reference");
    if (place == Place::kOutside && (c == 'b' || c == 'B')) refuse_here("a word boundary");
    if (c == 'A' || c == 'z' || c == 'Z' || c == 'G') refuse_here("an anchor other than ^ and $");
    const bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '0';
    if (!is_word) {
      const char32_t character = take_character();
      return CharSet::of(character, character);
    }
    ++at_;
    const auto character = [](char32_t code_point) { return CharSet::of(code_point, code_point); };
    const bool is_negated = place == Place::kNegatedClass;  // what is more there is less in the end
    switch (c) {
      case 'd': return digits();
      case 'D': return digits().complement();
      case 'w': return word_chars();
      case 'W': return word_chars().complement();
      case 's': return is_negated ? white_space() : ascii_space();
      case 'S': return (is_negated ? ascii_space() : white_space()).complement();
      case 'p':
      case 'P': return category(c == 'P', begin);
      case 't': return character('\t');
      case 'n': return character('\n');
      case 'r': return character('\r');
      case 'f': return character('\f');
      case 'v': return character('\v');
      case '0':
        if (more() && text_[at_] >= '0' && text_[at_] <= '9') refuse_here("an octal escape");
        return character(0);
      case 'b': return character('\b');  // in a class alone
      case 'x': return character(take("{") ? braced(begin) : hexadecimal(2, begin));
      case 'u': return character(take("{") ? braced(begin) : hexadecimal(4, begin));
      default: at_ = begin; refuse(concat("the escape ", text_.substr(begin, 2)));
    }
  }

  CharSet category(bool is_negated, std::size_t begin) {
    std::string_view name = text_.substr(at_, 1);
    if (take("{")) {
      const std::size_t end = std::min(text_.find('}', at_), text_.size());
      name = text_.substr(at_, end - at_);
      at_ = end;
    }
    ++at_;
    const auto [place, is_new] = categories_.try_emplace(std::string(name.substr(0, 16)));
    if (at_ > text_.size() || (is_new && !add_category(name, place->second))) {
      at_ = begin;
      refuse("a property that is no general category like \\p{L} or \\p{Lu}");
    }
    return is_negated ? place->second.complement() : place->second;
  }

  char32_t digit(std::size_t begin) {
    const int value = more() ? hexadecimal_digit(text_[at_]) : -1;
    if (value < 0) {
      at_ = begin;
      bad("an escape without its hexadecimal digits");
    }
    ++at_;
    return static_cast<char32_t>(value);
  }

  char32_t hexadecimal(int count, std::size_t begin) {
    char32_t value = 0;
    for (int i = 0; i < count; ++i) value = value * 16 + digit(begin);
    return scalar(value, begin);
  }

  char32_t braced(std::size_t begin) {
    char32_t value = digit(begin);
    while (!take("}")) {
      value = value * 16 + digit(begin);
      if (value > CharSet::kLast) break;
    }
    return scalar(value, begin);
  }

  char32_t scalar(char32_t value, std::size_t begin) {
    if (value > CharSet::kLast || (value >= 0xD800 && value <= 0xDFFF)) {
      at_ = begin;
      bad("an escape of no character: surrogates and what lies above U+10FFFF are none");
    }
    return value;
  }

  Rules& rules_;
  std::string_view text_;
  std::string_view where_;
  const RegexOptions& options_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::map<std::string, CharSet> categories_;  // those that were asked for
};

}  // namespace

Rules::Node add_regex(Rules& rules, std::string_view pattern, std::string_view where,
                      const RegexOptions& options) {
  return RegexParser(rules, pattern, where, options).parse();
}

}  // namespace gpt::generate
