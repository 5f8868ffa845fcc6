// Grammars in GBNF, llama.cpp's notation.
#pragma once

#include <string_view>

#include "generate/grammar/rules.h"

namespace gpt::generate {

/// See Grammar::from_gbnf. Throws FormatError and UnsupportedError with line and column.
Rules parse_gbnf(std::string_view text);

}  // namespace gpt::generate
