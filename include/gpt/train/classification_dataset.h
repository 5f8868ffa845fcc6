// Samples for a classifier.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/models/classifier.h"
#include "gpt/train/dataset.h"
#include "gpt/train/labelled_rows.h"

namespace gpt {

struct ClassificationDatasetOptions {
  std::int64_t max_length = 0;  // ids of a text at most, of its first ones; 0, and more: n_positions
  /// Leaves out and counts rows whose labels the classifier does not have; else the first is an error.
  bool skip_bad_rows = false;
  std::string source = "data";  // what holds the rows, for errors
};

/// Texts encoded by Classifier::encode, with what the classifier's problem_type makes of their labels: the number of the one label; 1
/// for each label that a row has and 0 for the others; or the label as a number. Copying shares the samples.
class ClassificationDataset final : public Dataset {
 public:
  /// Throws FormatError naming source and line: a label that the classifier does not have or that is no number, more or fewer than
  /// one where it takes one, text that the vocabulary cannot express; UnsupportedError without a tokenizer.
  ClassificationDataset(const Classifier& classifier, std::span<const LabelledRow> rows,
                        const ClassificationDatasetOptions& options = {});

  std::int64_t bad() const noexcept;              // rows left out by skip_bad_rows
  const std::string& first_bad() const noexcept;  // what is wrong with the first; empty when there is none
  std::int64_t truncated() const noexcept;        // texts that were longer than max_length
  /// The numbers of those of the rows that are samples here, one for each of them.
  std::vector<std::int64_t> rows() const;
  /// kSingleLabel: the class of every sample.
  std::vector<std::int32_t> classes() const;

  /// The samples of these numbers, in this order. Throws ArgumentError for a number that there is not, and none.
  ClassificationDataset subset(std::span<const std::int64_t> samples) const;

  std::int64_t size() const noexcept override { return static_cast<std::int64_t>(order_.size()); }
  Sample at(std::int64_t index) const override;
  std::int64_t length(std::int64_t index) const override;
  std::uint64_t fingerprint() const noexcept override;

 private:
  struct Data;
  std::shared_ptr<const Data> data_;
  std::vector<std::int64_t> order_;
};

/// Divides samples into k parts in which every class has its share, to within one sample; which are together depends on the seed. Each
/// part is sorted. Throws ArgumentError for a k below 2 or more than there are samples.
std::vector<std::vector<std::int64_t>> stratified_folds(std::span<const std::int32_t> classes, std::int64_t k,
                                                        std::uint64_t seed);

}  // namespace gpt
