// The options of gpt-generate that give the text a grammar.
#pragma once

#include <optional>
#include <string>

#include <gpt/generate/grammar.h>

#include "command_line.h"

namespace program {

/// Which grammar is asked for: at most one of these.
struct GrammarRequest {
  std::optional<std::string> regex, json_schema, json_schema_file, grammar, grammar_file;
  bool json_object = false;
};

void add_grammar_options(App& app, GrammarRequest& request);

/// Makes the grammar; unset when none is asked for. Throws UsageError for more than one, and for a text on the command line that
/// is no grammar; for a file gpt::IoError and what Grammar throws.
std::optional<gpt::Grammar> read_grammar(const GrammarRequest& request);

}  // namespace program
