#include "generate/grammar/json_text.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>

#include "generate/grammar/regex.h"
#include "gpt/text/utf8.h"

namespace gpt::generate {
namespace {

struct Escape {
  char32_t character;
  char letter;
};
constexpr Escape kEscapes[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                               {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
constexpr char32_t kFirstPlain = 0x20;  // those below have to be escaped

// Names in order that share their first `depth` characters: what is none of them, from there on.
Rules::Node none_of(Rules& rules, JsonText& json, const std::vector<std::u32string>& names, std::size_t begin,
                    std::size_t end, std::size_t depth) {
  std::vector<Rules::Node> all;
  std::vector<CharSet::Range> taken{{0, kFirstPlain - 1}};  // no others are as odd as these
  bool may_end = true;
  for (std::size_t i = begin; i < end;) {
    if (names[i].size() == depth) {
      may_end = false;
      ++i;
      continue;
    }
    const char32_t c = names[i][depth];
    std::size_t next = i;
    while (next < end && names[next].size() > depth && names[next][depth] == c) ++next;
    taken.push_back({c, c});
    std::vector<Rules::Node> parts;
    parts.push_back(json.character(CharSet::of(c, c)));
    parts.push_back(none_of(rules, json, names, i, next, depth + 1));
    all.push_back(rules.sequence(std::move(parts)));
    i = next;
  }
  std::vector<Rules::Node> other;
  other.push_back(json.character(CharSet().add(std::span<const CharSet::Range>(taken)).complement()));
  other.push_back(rules.repeat(json.any_character(), 0));
  all.push_back(rules.sequence(std::move(other)));
  if (may_end) all.push_back(rules.text(""));
  return rules.choice(std::move(all));
}

}  // namespace

Rules::Node JsonText::with_space(std::string_view text) {
  std::vector<Rules::Node> parts;
  parts.push_back(rules_.text(text));
  parts.push_back(rules_.optional(rules_.text(" ")));
  return rules_.sequence(std::move(parts));
}

Rules::Node JsonText::key(std::string_view name) {
  std::vector<Rules::Node> parts;
  parts.push_back(literal(std::string(name)));
  parts.push_back(with_space(":"));
  return rules_.sequence(std::move(parts));
}

Rules::Node JsonText::literal(const json::Value& value) { return rules_.text(json::dump(value)); }

Rules::Node JsonText::boolean() {
  std::vector<Rules::Node> all;
  all.push_back(rules_.text("true"));
  all.push_back(rules_.text("false"));
  return rules_.choice(std::move(all));
}

Rules::Node JsonText::integer() { return add_regex(rules_, "0|-?[1-9]\\d{0,14}", "json_schema"); }

Rules::Node JsonText::number() {
  // At most 15 digits and an exponent of two: no reader finds more than a double holds.
  return add_regex(rules_, "-?(0|[1-9]\\d{0,14})(\\.\\d{1,15})?([eE][+-]?\\d{1,2})?", "json_schema");
}

Rules::Node JsonText::string(std::uint32_t least, std::uint32_t most) {
  return quoted(rules_.repeat(any_character(), least, most));
}

Rules::Node JsonText::quoted(Rules::Node inside) {
  std::vector<Rules::Node> parts;
  parts.push_back(rules_.text("\""));
  parts.push_back(inside);
  parts.push_back(rules_.text("\""));
  return rules_.sequence(std::move(parts));
}

Rules::Node JsonText::character(const CharSet& set) {
  CharSet special = CharSet::of(0, kFirstPlain - 1), letters, hexadecimal[2];
  const auto is_escaped = [](char32_t c) {
    return std::any_of(std::begin(kEscapes), std::end(kEscapes),
                       [c](const Escape& escape) { return escape.character == c; });
  };
  for (const Escape& escape : kEscapes) {
    special.add(escape.character, escape.character);
    const auto letter = static_cast<char32_t>(escape.letter);
    if (set.contains(escape.character)) letters.add(letter, letter);
  }
  for (char32_t c = 1; c < kFirstPlain; ++c) {
    const char32_t digit = (c & 15) < 10 ? '0' + (c & 15) : 'a' + (c & 15) - 10;
    if (set.contains(c) && !is_escaped(c)) hexadecimal[c >> 4].add(digit, digit);
  }
  std::vector<Rules::Node> all;
  const auto add = [&](std::string_view before, CharSet last) {
    if (last.empty()) return;
    std::vector<Rules::Node> parts;
    if (!before.empty()) parts.push_back(rules_.text(before));
    parts.push_back(rules_.set(std::move(last)));
    all.push_back(rules_.sequence(std::move(parts)));
  };
  add("\\", std::move(letters));
  add("\\u000", std::move(hexadecimal[0]));
  add("\\u001", std::move(hexadecimal[1]));
  add("", set.without(special));
  return rules_.choice(std::move(all));
}

Rules::Node JsonText::any_character() {
  if (!any_character_) {
    CharSet set = CharSet::of(kFirstPlain, CharSet::kLast);
    for (const Escape& escape : kEscapes) set.add(escape.character, escape.character);
    any_character_ = character(set);
  }
  return *any_character_;
}

Rules::Node JsonText::key_but(const std::vector<std::string>& names) {
  std::vector<std::u32string> characters;
  for (std::string_view name : names) {
    std::u32string& text = characters.emplace_back();
    while (!name.empty()) {
      const Utf8Prefix c = read_utf8(name);
      text += c.code_point;
      name.remove_prefix(c.length);
    }
  }
  std::sort(characters.begin(), characters.end());
  std::vector<Rules::Node> parts;
  parts.push_back(quoted(none_of(rules_, *this, characters, 0, characters.size(), 0)));
  parts.push_back(with_space(":"));
  return rules_.sequence(std::move(parts));
}

Rules::Node JsonText::enclosed(std::string_view open, Rules::List list, std::string_view close) {
  list.separator = comma();
  std::vector<Rules::Node> parts;
  parts.push_back(rules_.text(open));
  parts.push_back(rules_.list(std::move(list)));
  parts.push_back(rules_.text(close));
  return rules_.sequence(std::move(parts));
}

Rules::Node JsonText::any_array() {
  Rules::List elements;
  elements.more = value();
  return array(std::move(elements));
}

Rules::Node JsonText::any_object() {
  std::vector<Rules::Node> member;
  member.push_back(key_but({}));
  member.push_back(value());
  Rules::List members;
  members.more = rules_.sequence(std::move(member));
  return object(std::move(members));
}

Rules::Node JsonText::value() {
  if (!value_) {
    value_ = rules_.declare("any value");
    std::vector<Rules::Node> all;
    for (const std::string_view word : {"null", "true", "false"}) all.push_back(rules_.text(word));
    all.push_back(number());
    all.push_back(string());
    all.push_back(any_array());
    all.push_back(any_object());
    rules_.define(*value_, rules_.choice(std::move(all)));
  }
  return rules_.call(*value_);
}

}  // namespace gpt::generate
