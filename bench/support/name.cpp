#include "bench/support/name.h"

#include <charconv>
#include <limits>

#include "gpt/core/error.h"

namespace gpt::bench {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

}  // namespace

Name::Name(std::string_view text) : text_(text) {
  std::vector<std::string> parts = split(text, '/');
  family_ = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t colon = parts[i].find(':');
    if (colon == std::string::npos)
      fields_.push_back({"", parts[i]});
    else
      fields_.push_back({parts[i].substr(0, colon), parts[i].substr(colon + 1)});
  }
}

std::vector<std::string> Name::keys() const {
  std::vector<std::string> keys;
  for (const Field& f : fields_) keys.push_back(f.key);
  return keys;
}

const std::string& Name::word(std::size_t i) const {
  for (const Field& f : fields_)
    if (f.key.empty() && i-- == 0) return f.value;
  fail<ArgumentError>(text_, "too few parts without a key");
}

const std::string& Name::value(std::string_view key) const {
  for (const Field& f : fields_)
    if (f.key == key) return f.value;
  fail<ArgumentError>(text_, "no part ", key, ":");
}

std::int64_t Name::number(std::string_view key, std::int64_t min) const {
  const std::string& text = value(key);
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < min)
    fail<ArgumentError>(text_, key, ":", text, ", expected a number of at least ", min);
  return n;
}

int Name::threads() const {
  const std::int64_t n = number("threads");
  if (n > std::numeric_limits<int>::max()) fail<ArgumentError>(text_, "too many threads");
  return static_cast<int>(n);
}

std::vector<std::string> names_in_filter(std::string_view filter) {
  std::string plain;
  for (const char c : filter)
    if (c != '^' && c != '$' && c != '(' && c != ')') plain += c;
  return split(plain, '|');
}

}  // namespace gpt::bench
