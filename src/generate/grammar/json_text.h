// JSON's values as rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "generate/grammar/rules.h"

namespace gpt::generate {

/// How the values are written: on one line, with one space or none behind : and ,; strings with the escapes that JSON demands
/// and no other, and without U+0000, which many readers refuse; integers of at most 15 digits, which a double holds exactly.
class JsonText {
 public:
  static constexpr int kMaxDigits = 15;

  explicit JsonText(Rules& rules) : rules_(rules) {}

  Rules::Node comma() { return with_space(","); }
  /// A member's name, with what stands behind it.
  Rules::Node key(std::string_view name);
  /// A name that is none of these.
  Rules::Node key_but(const std::vector<std::string>& names);

  /// Exactly this value.
  Rules::Node literal(const json::Value& value);
  Rules::Node boolean();
  Rules::Node integer();
  Rules::Node number();
  /// A string of so many characters.
  Rules::Node string(std::uint32_t least = 0, std::uint32_t most = Rules::kNoLimit);
  /// The quotation marks around what is between them.
  Rules::Node quoted(Rules::Node inside);
  /// One character of a string, out of a set.
  Rules::Node character(const CharSet& set);
  /// Any but the control characters that only \\u can write.
  Rules::Node any_character();

  Rules::Node object(Rules::List members) { return enclosed("{", std::move(members), "}"); }
  Rules::Node array(Rules::List elements) { return enclosed("[", std::move(elements), "]"); }
  /// Any value; recursive.
  Rules::Node value();
  Rules::Node any_object();
  Rules::Node any_array();

 private:
  Rules::Node with_space(std::string_view text);
  Rules::Node enclosed(std::string_view open, Rules::List list, std::string_view close);

  Rules& rules_;
  std::optional<Rules::Rule> value_;
  std::optional<Rules::Node> any_character_;
};

/// A bound of a number, "12" and "5" of 12.5, without zeros that say nothing.
struct DecimalBound {
  bool is_negative = false;
  std::string whole = "0", fraction = "";
  bool is_inclusive = true;
};

/// The numbers between two bounds, where they are there, with 15 significant digits at most and no exponent.
/// `integers` alone: the bounds have no fraction then.
Rules::Node add_number_range(Rules& rules, const std::optional<DecimalBound>& low,
                             const std::optional<DecimalBound>& high, bool integers);

}  // namespace gpt::generate
