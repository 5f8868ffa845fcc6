// The one place where JSON is read: strictly, and with errors that name the source. Internal: the public
// headers do not know nlohmann::json. Who looks into a Value includes <nlohmann/json.hpp>, which costs a file seconds to
// compile.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
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

/// The text of a value, on one line, or with `indent` spaces a level. Throws json::Value::type_error for text that is not
/// UTF-8.
std::string dump(const Value& value, int indent = -1);

/// `text` as a JSON string with its quotation marks; nothing when it is not UTF-8.
std::optional<std::string> dump_string(const std::string& text);

/// What a value is, for an error message: its text when it is short, else "a list" or "an object".
std::string describe(const Value& value);

}  // namespace gpt::json
