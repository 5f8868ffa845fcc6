// Any text is lines of questions, predictions or references, or gives a FormatError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/evaluate/choices.h"
#include "gpt/evaluate/generations.h"

GPT_FUZZER(evaluation_lines) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (const gpt::ChoiceQuestion& question : gpt::parse_choice_questions(text, "fuzz"))
      if (question.choices.size() < 2 || question.answer >= question.choices.size()) __builtin_trap();
  } catch (const gpt::FormatError&) {
  }
  try {
    if (gpt::parse_predictions(text, "fuzz").empty()) __builtin_trap();
  } catch (const gpt::FormatError&) {
  }
  try {
    for (const auto& references : gpt::parse_references(text, "fuzz"))
      if (references.empty()) __builtin_trap();
  } catch (const gpt::FormatError&) {
  }
  return 0;
}
