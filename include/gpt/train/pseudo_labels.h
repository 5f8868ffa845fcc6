// Learning from texts without labels: those that a classifier is sure of.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "gpt/models/classifier.h"
#include "gpt/train/labelled_rows.h"

namespace gpt {

struct PseudoLabelOptions {
  double threshold = 0.9;       // the least probability of a label, more than 0, at most 1
  double temperature = 1;       // of the probabilities: see probabilities()
  std::int64_t max_length = 0;  // as Classifier::encode
  std::stop_token stop = {};    // asked before every matrix product
};

/// The rows whose likeliest label has at least that probability, in their order and with that label in the place of theirs, to be learned
/// beside those whose labels are known (Lee, "Pseudo-Label", ICML 2013 workshop). Throws ArgumentError for an option out of its range, and a
/// classifier that is not kSingleLabel; as Classifier::logits.
std::vector<LabelledRow> pseudo_labelled(const Classifier& classifier, std::span<const LabelledRow> rows,
                                         const PseudoLabelOptions& options = {});

}  // namespace gpt
