// The one place where JSON is read: strictly, and with errors that name the source. Internal: the public
// headers do not know nlohmann::json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace gpt::json {

/// Keeps the members of an object in the order of the text. Finding a member is linear: walk through large
/// objects.
using Value = nlohmann::ordered_json;

inline constexpr int kMaxDepth = 100;

/// Parses one JSON document (RFC 8259, UTF-8). Throws FormatError naming `source`, line and column, also for
/// a key that occurs twice in an object, nesting deeper than kMaxDepth, NUL bytes and numbers beyond double
/// precision.
Value parse(std::string_view text, std::string_view source);

/// The same, for a document that must be an object.
Value parse_object(std::string_view text, std::string_view source);

/// What a value is, for an error message: its text when it is short, else "a list" or "an object".
std::string describe(const Value& value);

}  // namespace gpt::json
