#include "gpt/evaluate/generations.h"

#include <utility>

#include "core/memory.h"
#include "evaluate/jsonl_lines.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

std::string prediction_of(const JsonObject& line) {
  const auto key = evaluate::only_key(line, {"prediction", "text"});
  if (!key) fail<FormatError>(line.source(), "has none of the keys prediction and text");
  return line.required_string(*key);
}

std::vector<std::string> references_of(const JsonObject& line) {
  // "text" beside one of these may be the prediction.
  const auto key = evaluate::only_key(line, {"references", "reference"});
  if (key == "references") {
    std::vector<std::string> texts = evaluate::required_texts(line, "references");
    if (texts.empty()) fail<FormatError>(line.source(), "references is empty, expected 1 text or more");
    return texts;
  }
  if (!key && line.find("text") == nullptr)
    fail<FormatError>(line.source(), "has none of the keys references, reference and text");
  return {line.required_string(key.value_or("text"))};
}

}  // namespace

std::vector<std::string> parse_predictions(std::string_view text, std::string_view source) {
  return with_memory_errors(source, [&] {
    std::vector<std::string> all;
    evaluate::for_each_json_line(text, source,
                                 [&all](const JsonObject& line) { all.push_back(prediction_of(line)); });
    if (all.empty()) fail<FormatError>(source, "has no prediction, expected one on each line");
    return all;
  });
}

std::vector<std::vector<std::string>> parse_references(std::string_view text, std::string_view source) {
  return with_memory_errors(source, [&] {
    std::vector<std::vector<std::string>> all;
    evaluate::for_each_json_line(text, source,
                                 [&all](const JsonObject& line) { all.push_back(references_of(line)); });
    if (all.empty()) fail<FormatError>(source, "has no references, expected some on each line");
    return all;
  });
}

std::vector<ReferencedText> join_references(std::vector<std::string> predictions,
                                            std::vector<std::vector<std::string>> references) {
  if (predictions.size() != references.size())
    fail<ArgumentError>("join_references", "there are ", references.size(), " lines of references for ",
                        predictions.size(), " predictions");
  return with_memory_errors("join_references", [&] {
    std::vector<ReferencedText> texts;
    for (std::size_t i = 0; i < predictions.size(); ++i)
      texts.push_back({std::move(predictions[i]), std::move(references[i])});
    return texts;
  });
}

}  // namespace gpt
