#include "text/markup.h"

#include <charconv>
#include <cmath>

#include "gpt/core/error.h"
#include "gpt/text/utf8.h"

namespace gpt {
namespace {

std::string print(double value, std::chars_format format, int digits) {
  char buffer[512];  // the largest double has 309 digits before the point
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value, format, digits);
  return error == std::errc() ? std::string(buffer, end) : concat(value);
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : replace_invalid_utf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (byte == 0x7F)
      out += "\u2421";
    else if (byte < 0x20 && c != '\n' && c != '\t')
      (out += "\xE2\x90") += static_cast<char>(0x80 + byte);
    else
      out += c;
  }
  return out;
}

std::string fixed(double value, int digits) { return print(value, std::chars_format::fixed, digits); }

std::string significant(double value, int digits) {
  if (value != 0 && std::abs(value) >= 1 && std::abs(value) < 1e6) {  // no exponent for 1234 and few digits
    int whole = 1;
    for (double rest = std::abs(value); rest >= 10; rest /= 10) ++whole;
    if (whole >= digits) return fixed(value, 0);
  }
  std::string text = print(value, std::chars_format::general, digits);
  // The sign and the leading zero of an exponent.
  if (const std::size_t e = text.find('e'); e != text.npos) {
    if (text[e + 1] == '+') text.erase(e + 1, 1);
    const std::size_t digit = text[e + 1] == '-' ? e + 2 : e + 1;
    while (text[digit] == '0' && digit + 1 < text.size()) text.erase(digit, 1);
  }
  return text;
}

std::string grouped(std::int64_t value) {
  std::string text = concat(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t place = text.size(); place > first + 3;) text.insert(place -= 3, "\u202F");
  return text;
}

}  // namespace gpt
