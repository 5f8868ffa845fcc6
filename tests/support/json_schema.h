// A validator of JSON schemas for the tests of what is generated under them. It shares nothing with the library.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace gpt::test {

/// Why `value` is not valid under `schema`, whose references are into `root`; empty when it is. Knows the keywords that
/// Grammar::from_json_schema knows, and fails for others.
std::string why_invalid(const nlohmann::json& value, const nlohmann::json& schema,
                        const nlohmann::json& root);

}  // namespace gpt::test
