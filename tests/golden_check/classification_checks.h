// Judges a classifier: README 2.7.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "expected.h"
#include "gpt/models/classifier.h"

namespace gpt::golden {

/// The batches right_* and left_*: logits, the three losses, and their gradients. Both arguments must outlive it and its rules.
class ClassificationChecks {
 public:
  ClassificationChecks(const std::filesystem::path& checkpoint, const ExpectedTensors& expected)
      : checkpoint_(checkpoint), expected_(expected) {}

  std::vector<Rule> tensor_rules();
  std::vector<Rule> json_rules();

 private:
  /// One batch with one of the three losses.
  struct Run {
    std::vector<float> logits;
    double loss = 0;
    std::map<std::string, Tensor> gradients;
  };
  /// "right" or "left", and "", "_multi" or "_regression".
  const Run& run(const std::string& side, const std::string& kind);

  Outcome logits(const Entry& entry);
  Outcome loss(const Entry& entry);
  Outcome gradient(const Entry& entry);

  const std::filesystem::path& checkpoint_;
  const ExpectedTensors& expected_;
  std::map<std::string, Run> runs_;
};

}  // namespace gpt::golden
