#include "generate/grammar/gbnf.h"

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

constexpr const char* kGbnfSource = "grammar";

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(text), rules_(kGbnfSource) {}

  Rules parse() {
    if (!is_valid_utf8(text_)) fail<FormatError>(kGbnfSource, "is not valid UTF-8");
    skip(true);
    while (more()) {
      rule();
      skip(true);
    }
    for (std::size_t rule = 0; rule < is_defined_.size(); ++rule) {
      if (is_defined_[rule]) continue;
      at_ = first_use_[rule];
      bad(concat("the rule ", quote(rules_.name(static_cast<Rules::Rule>(rule))), " is not defined"));
    }
    const auto root = names_.find("root");
    if (root == names_.end())
      fail<FormatError>(kGbnfSource, "has no rule \"root\", with which a text begins");
    rules_.set_root(root->second);
    return std::move(rules_);
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    const auto before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    fail<FormatError>(kGbnfSource, "line ", line, ", column ", at_ - (before.rfind('\n') + 1) + 1, ": ",
                      what);
  }
  [[noreturn]] void refuse(std::string_view what) const {
    const auto before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    fail<UnsupportedError>(kGbnfSource, "line ", line, ", column ", at_ - (before.rfind('\n') + 1) + 1, ": ",
                           what, " is not supported");
  }

  bool more() const noexcept { return at_ < text_.size(); }
  char next() const noexcept { return more() ? text_[at_] : '\0'; }
  bool take(std::string_view what) noexcept {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }

  // White space and comments; with line ends where a line end means nothing.
  void skip(bool line_ends) {
    for (;;) {
      if (next() == '#') {
        while (more() && text_[at_] != '\n' && text_[at_] != '\r') ++at_;
      } else if (next() == ' ' || next() == '\t' || (line_ends && (next() == '\n' || next() == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  static bool is_name_char(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  }

  std::string name() {
    const std::size_t begin = at_;
    while (is_name_char(next())) ++at_;
    if (at_ == begin) bad("expected the name of a rule");
    return std::string(text_.substr(begin, at_ - begin));
  }

  Rules::Rule rule_of(const std::string& name) {
    const auto [place, is_new] = names_.try_emplace(name, 0);
    if (is_new) {
      place->second = rules_.declare(name);
      is_defined_.push_back(false);
      first_use_.push_back(at_ - name.size());
    }
    return place->second;
  }

  void rule() {
    const std::size_t begin = at_;
    const std::string rule_name = name();
    skip(false);
    if (!take("::=")) bad("expected ::= after the name of a rule");
    const Rules::Rule rule = rule_of(rule_name);
    if (is_defined_[rule]) {
      at_ = begin;
      bad(concat("the rule ", quote(rule_name), " is defined a second time"));
    }
    is_defined_[rule] = true;
    skip(true);
    rules_.define(rule, alternatives());
    if (more() && next() != '\n' && next() != '\r') bad("expected the end of the line after a rule");
  }

  Rules::Node alternatives() {
    std::vector<Rules::Node> all;
    all.push_back(sequence());
    while (take("|")) {
      skip(true);
      all.push_back(sequence());
    }
    return rules_.choice(std::move(all));
  }

  Rules::Node sequence() {
    std::vector<Rules::Node> parts;
    for (;;) {
      const char c = next();
      if (c == '"') {
        parts.push_back(literal());
      } else if (c == '[') {
        parts.push_back(rules_.set(bracket()));
      } else if (c == '.') {
        ++at_;
        parts.push_back(rules_.set(CharSet::all()));
      } else if (c == '(') {
        parts.push_back(group());
      } else if (is_name_char(c)) {
        parts.push_back(rules_.call(rule_of(name())));
      } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        if (parts.empty()) bad("a repetition with nothing before it");
        parts.back() = repeated(parts.back());
      } else if (c == '<' || c == '!') {
        refuse("a token of the vocabulary in a grammar of characters");
      } else {
        return rules_.sequence(std::move(parts));
      }
      skip(depth_ > 0);
    }
  }

  Rules::Node group() {
    const std::size_t begin = at_++;
    if (++depth_ > kMaxGroupDepth) bad(concat("groups nested more than ", kMaxGroupDepth, " deep"));
    skip(true);
    const Rules::Node inside = alternatives();
    --depth_;
    if (!take(")")) {
      if (more()) bad("expected ) or more of a group");
      at_ = begin;
      bad("a ( without its )");
    }
    return inside;
  }

  Rules::Node repeated(Rules::Node part) {
    if (take("*")) return rules_.repeat(part, 0);
    if (take("+")) return rules_.repeat(part, 1);
    if (take("?")) return rules_.optional(part);
    ++at_;
    skip(true);
    const auto low = number();
    if (!low) bad("expected a number of repetitions after {");
    std::uint32_t most = *low;
    skip(true);
    if (take(",")) {
      skip(true);
      most = number().value_or(Rules::kNoLimit);
      skip(true);
    }
    if (!take("}")) bad("expected } after the numbers of repetitions");
    if (most < *low) bad("the most repetitions are fewer than the least");
    return rules_.repeat(part, *low, most);
  }

  std::optional<std::uint32_t> number() {
    std::optional<std::uint32_t> value;
    while (next() >= '0' && next() <= '9') {
      value = value.value_or(0) * 10 + static_cast<std::uint32_t>(next() - '0');
      if (*value > kMaxRepeat) bad(concat("more than ", kMaxRepeat, " repetitions, which is the limit"));
      ++at_;
    }
    return value;
  }

  Rules::Node literal() {
    const std::size_t begin = at_++;
    std::string bytes;
    while (next() != '"') {
      if (!more()) {
        at_ = begin;
        bad("a text without its closing \"");
      }
      for (const ByteRanges& utf8 : utf8_of(character()))
        for (unsigned i = 0; i < utf8.size; ++i) bytes += static_cast<char>(utf8.bytes[i].first);
    }
    ++at_;
    return rules_.text(bytes);
  }

  static std::vector<ByteRanges> utf8_of(char32_t c) { return utf8_sequences({c, c}); }

  CharSet bracket() {
    const std::size_t begin = at_++;
    const bool is_negated = take("^");
    std::vector<CharSet::Range> ranges;
    while (next() != ']') {
      if (!more()) {
        at_ = begin;
        bad("a [ without its ]");
      }
      const char32_t first = character();
      char32_t last = first;
      if (next() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        last = character();
        if (last < first) bad("a range that ends before it begins");
      }
      ranges.push_back({first, last});
    }
    ++at_;
    CharSet set;
    set.add(std::span<const CharSet::Range>(ranges));
    if (is_negated) set = set.complement();
    if (set.empty()) {
      at_ = begin;
      bad("a class without characters");
    }
    return set;
  }

  // One of a text or of a class, which may be escaped.
  char32_t character() {
    const std::size_t begin = at_;
    if (!take("\\")) {
      const Utf8Prefix c = read_utf8(text_.substr(at_));
      at_ += c.length;
      return c.code_point;
    }
    const char c = next();
    ++at_;
    switch (c) {
      case 'x': return hexadecimal(2, begin);
      case 'u': return hexadecimal(4, begin);
      case 'U': return hexadecimal(8, begin);
      case 't': return '\t';
      case 'r': return '\r';
      case 'n': return '\n';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^': return static_cast<char32_t>(c);
      default: at_ = begin; bad("an unknown escape");
    }
  }

  char32_t hexadecimal(int count, std::size_t begin) {
    std::uint64_t value = 0;
    for (int i = 0; i < count; ++i) {
      const int digit = hexadecimal_digit(next());
      if (digit < 0) {
        at_ = begin;
        bad(concat("expected ", count, " hexadecimal digits in the escape"));
      }
      value = value * 16 + static_cast<unsigned>(digit);
      ++at_;
    }
    if (value > CharSet::kLast || (value >= 0xD800 && value <= 0xDFFF)) {
      at_ = begin;
      bad("an escape of no character: surrogates and what lies above U+10FFFF are none");
    }
    return static_cast<char32_t>(value);
  }

  std::string_view text_;
  Rules rules_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::map<std::string, Rules::Rule> names_;
  std::vector<bool> is_defined_;        // by rule
  std::vector<std::size_t> first_use_;  // the place
};

}  // namespace

Rules parse_gbnf(std::string_view text) { return GbnfParser(text).parse(); }

}  // namespace gpt::generate
