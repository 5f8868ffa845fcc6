#include "grammar_options.h"

#include <string>

#include <gpt/core/error.h>

#include "program.h"

namespace program {
namespace {

// What is wrong with a text on the command line, the command line is to blame for.
template <class Make>
gpt::Grammar of_option(const char* name, const std::string& text, Make&& make) {
  try {
    return make(text);
  } catch (const gpt::Error& error) {
    throw UsageError(gpt::concat(name, ": ", error.what()));
  }
}

// Names the file in the library's message.
template <class Make>
gpt::Grammar of_file(const std::string& path, Make&& make) {
  const std::string text = read_all(path), name = input_name(path);
  try {
    return make(text);
  } catch (const gpt::FormatError& error) {
    throw gpt::FormatError(gpt::concat(name, ": ", error.what()));
  } catch (const gpt::UnsupportedError& error) {
    throw gpt::UnsupportedError(gpt::concat(name, ": ", error.what()));
  } catch (const gpt::ArgumentError& error) {
    throw gpt::ArgumentError(gpt::concat(name, ": ", error.what()));
  }
}

}  // namespace

void add_grammar_options(App& app, GrammarRequest& request) {
  constexpr const char* kGroup =
      "Structured output (at most one; the text is complete within --max-new-tokens)";
  const auto text = [&](const char* name, std::optional<std::string>& value, const char* type,
                        const char* description) {
    return app.add_text(name, value, type, description).group(kGroup);
  };
  text("--regex", request.regex, "PATTERN", "The new text matches this regular expression");
  text("--json-schema", request.json_schema, "JSON", "It is JSON that is valid under this schema");
  text("--json-schema-file", request.json_schema_file, "FILE", "The same, from a file").is_input();
  app.add_flag("--json-object", request.json_object, "It is a JSON object").group(kGroup);
  text("--grammar", request.grammar, "GBNF", "It is one of this grammar, as llama.cpp writes them");
  text("--grammar-file", request.grammar_file, "FILE", "The same, from a file").is_input();
}

std::optional<gpt::Grammar> read_grammar(const GrammarRequest& request) {
  using gpt::Grammar;
  const int given = request.regex.has_value() + request.json_schema.has_value() +
                    request.json_schema_file.has_value() + request.grammar.has_value() +
                    request.grammar_file.has_value() + (request.json_object ? 1 : 0);
  if (given > 1)
    throw UsageError(
        "give at most one of --regex, --json-schema, --json-schema-file, --json-object, --grammar and "
        "--grammar-file");
  if (request.regex) return of_option("--regex", *request.regex, Grammar::from_regex);
  if (request.json_schema) return of_option("--json-schema", *request.json_schema, Grammar::from_json_schema);
  if (request.grammar) return of_option("--grammar", *request.grammar, Grammar::from_gbnf);
  if (request.json_schema_file) return of_file(*request.json_schema_file, Grammar::from_json_schema);
  if (request.grammar_file) return of_file(*request.grammar_file, Grammar::from_gbnf);
  if (request.json_object) return Grammar::json_object();
  return std::nullopt;
}

}  // namespace program
