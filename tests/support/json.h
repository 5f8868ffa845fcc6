// JSON for the tests. Reading and writing are compiled once: their templates would cost every file seconds.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace gpt::test {

using Json = nlohmann::json;

/// Throws nlohmann's parse_error.
Json parse_json(std::string_view text);

/// On one line, in ASCII.
std::string dump_json(const Json& value);

}  // namespace gpt::test
