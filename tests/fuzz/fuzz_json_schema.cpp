// Any text is a schema whose masks lead to its texts, or gives an error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "grammar_masks.h"

GPT_FUZZER(json_schema) {
  return gpt::fuzz::check_grammar(
      data, size, [](const std::string& text) { return gpt::Grammar::from_json_schema(text); });
}
