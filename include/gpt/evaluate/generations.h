// Generated texts and their references, as files hold them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gpt/evaluate/text_metrics.h"

namespace gpt {

/// The texts of a JSONL text, an object a line, blank lines left out: {"prediction": text} or {"text": text}, as gpt-generate
/// --json writes it. Other keys are not looked at. Throws FormatError naming `source` and the line, also for a line
/// with both, and when there is none.
std::vector<std::string> parse_predictions(std::string_view text, std::string_view source);

/// Likewise {"references": [text, ...]} with 1 or more, {"reference": text} or {"text": text}: the references of one prediction
/// each line, so that one file can hold both: "text" is not looked at beside one of the others.
std::vector<std::vector<std::string>> parse_references(std::string_view text, std::string_view source);

/// One with the other. Throws ArgumentError unless there are as many.
std::vector<ReferencedText> join_references(std::vector<std::string> predictions,
                                            std::vector<std::vector<std::string>> references);

}  // namespace gpt
