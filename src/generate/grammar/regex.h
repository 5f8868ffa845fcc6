// Regular expressions as rules.
#pragma once

#include <functional>
#include <string_view>

#include "generate/grammar/rules.h"

namespace gpt::generate {

struct RegexOptions {
  /// The text needs only to contain a match, unless ^ or $ binds it: JSON schema's "pattern". Else the whole text is the match.
  bool is_search = false;
  /// What stands for one character of a set; empty: the character itself.
  std::function<Rules::Node(Rules&, const CharSet&)> encode = {};
};

/// Adds the expression of a pattern. See Grammar::from_regex. Throws FormatError and UnsupportedError with the position, naming
/// `where`.
Rules::Node add_regex(Rules& rules, std::string_view pattern, std::string_view where,
                      const RegexOptions& options = {});

}  // namespace gpt::generate
