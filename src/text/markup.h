// Text and numbers as HTML and SVG show them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gpt {

/// The text for any place between tags, or in an attribute's double quotes. What is not UTF-8 becomes U+FFFD, and a control
/// character, which no markup may contain, its picture (U+2400 and following).
std::string escape_markup(std::string_view text);

/// With so many digits after the point.
std::string fixed(double value, int digits);
/// With at most so many significant digits, the shortest way: 0.0123, 5e-5, 1234.
std::string significant(double value, int digits);
/// 1234567 in groups of three, between thin spaces that no line breaks at.
std::string grouped(std::int64_t value);

}  // namespace gpt
