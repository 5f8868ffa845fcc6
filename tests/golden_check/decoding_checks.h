// Judges greedy decoding and beam search: README 2.4, and the continuations of a checkpoint with a tokenizer (README 5).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "expected.h"
#include "gpt/generate/generator.h"
#include "gpt/models/model.h"

namespace gpt::golden {

/// The continuations in golden.json's lists `greedy` and `beam`. The model must outlive it, and it its rules.
class DecodingChecks {
 public:
  explicit DecodingChecks(const Model& model) : model_(model), generator_(model) {}

  std::vector<Rule> json_rules();
  /// For greedy_prompt and greedy_generated, which repeat the first entry of the list in `document`. Both arguments
  /// must outlive the rules.
  std::vector<Rule> tensor_rules(const ExpectedTensors& expected, const Json& document);

 private:
  /// The library's continuation of one entry of the list, computed once. `where` is the entry's path.
  const GenerateResult& continuation(const Json& entry, const std::string& where);

  /// The same for the list of beam searches: all hypotheses, best first.
  const std::vector<GenerateResult>& hypotheses(const Json& entry, const std::string& where);

  Outcome generated(const Entry& entry);
  Outcome margin(const Entry& entry);
  Outcome prompt_ids(const Entry& entry);
  Outcome text(const Entry& entry);
  Outcome sequences(const Entry& entry);
  Outcome scores(const Entry& entry);

  const Model& model_;
  Generator generator_;
  std::map<const Json*, GenerateResult> continuations_;
  std::map<const Json*, std::vector<GenerateResult>> hypotheses_;
};

}  // namespace gpt::golden
