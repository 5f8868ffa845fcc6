// What is done to generated text before it is shown or scored.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace gpt {

/// The text without white space (Unicode's, and Python's four separators) at both ends.
std::string trim(std::string_view text);

/// The text without the lines that are the same as an earlier one; lines of white space alone stay.
std::string dedupe_lines(std::string_view text);

/// Replaces what a regular expression matches. Expressions are RE2's (https://github.com/google/re2/wiki/Syntax), which take time
/// linear in the text whatever they are; they see UTF-8, and bytes that are none match nothing.
class RegexReplace {
 public:
  /// In the replacement, \0 is the whole match, \1 to \9 are groups and \\ is a backslash. Throws ArgumentError for an expression
  /// or a replacement that is wrong, saying why; MemoryError.
  RegexReplace(std::string_view expression, std::string_view replacement);

  /// The text with all matches replaced, found from left to right without overlaps.
  std::string operator()(std::string_view text) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

/// One step: text in, text out. trim, dedupe_lines and a RegexReplace are such steps.
using TextStep = std::function<std::string(std::string_view)>;

/// The text after all steps, one after another. Throws what they throw, and ArgumentError for an empty one.
std::string postprocess(std::string_view text, std::span<const TextStep> steps);

}  // namespace gpt
