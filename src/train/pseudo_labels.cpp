#include "gpt/train/pseudo_labels.h"

#include <algorithm>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

constexpr std::string_view kPseudoLabels = "pseudo_labels";

}  // namespace

std::vector<LabelledRow> pseudo_labelled(const Classifier& classifier, std::span<const LabelledRow> rows,
                                         const PseudoLabelOptions& options) {
  if (!(options.threshold > 0 && options.threshold <= 1))
    fail<ArgumentError>(kPseudoLabels, "threshold is ", options.threshold,
                        ", expected more than 0, at most 1");
  if (classifier.problem_type() != ProblemType::kSingleLabel)
    fail<ArgumentError>(kPseudoLabels, "the classifier is of type ", name_of(classifier.problem_type()),
                        ", expected ", name_of(ProblemType::kSingleLabel));
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kPseudoLabels, [&] {
    std::vector<LabelledRow> sure;
    if (rows.empty()) return sure;
    std::vector<std::vector<TokenId>> sequences;
    for (const LabelledRow& row : rows) sequences.push_back(classifier.encode(row.text, options.max_length));
    const Tensor logits = classifier.logits(sequences, options.stop);
    const auto labels = static_cast<std::size_t>(classifier.num_labels());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::vector<double> p = probabilities(
          ProblemType::kSingleLabel, logits.span<float>().subspan(i * labels, labels), options.temperature);
      const auto best = std::ranges::max_element(p);
      if (*best < options.threshold) continue;
      sure.push_back(
          {rows[i].text, {classifier.labels()[static_cast<std::size_t>(best - p.begin())]}, rows[i].line});
    }
    return sure;
  });
}

}  // namespace gpt
