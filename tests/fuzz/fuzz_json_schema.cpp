// Any text is a schema whose masks lead to its texts, or gives an error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "grammar_masks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt::fuzz::check_grammar(
      data, size, [](const std::string& text) { return gpt::Grammar::from_json_schema(text); });
}
