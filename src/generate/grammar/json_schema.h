// JSON schemas as rules.
#pragma once

#include <string_view>

#include "generate/grammar/rules.h"

namespace gpt::generate {

/// See Grammar::from_json_schema.
Rules parse_json_schema(std::string_view text);

}  // namespace gpt::generate
