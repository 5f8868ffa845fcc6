// Any text is a grammar whose masks lead to its texts, or gives an error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "grammar_masks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt::fuzz::check_grammar(data, size,
                                  [](const std::string& text) { return gpt::Grammar::from_gbnf(text); });
}
