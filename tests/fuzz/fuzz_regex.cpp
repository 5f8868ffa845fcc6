// Any pattern is a grammar whose masks lead to its texts, or gives an error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "grammar_masks.h"

GPT_FUZZER(regex) {
  return gpt::fuzz::check_grammar(data, size,
                                  [](const std::string& text) { return gpt::Grammar::from_regex(text); });
}
