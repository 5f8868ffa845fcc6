// What training learns from: samples of tokens with their labels.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

#include "gpt/core/token.h"

namespace gpt {

/// One sequence. As in transformers, labels are not shifted: labels[t] is what the network must predict from
/// ids[0..t), or kIgnoredLabel, and there are as many labels as ids. A sample of n ids is fed as n - 1 rows, ids[0..n-1),
/// which are scored against labels[1..n); labels[0] is never used.
struct Sample {
  std::vector<TokenId> ids;
  std::vector<TokenId> labels;
  /// For objectives that learn something of the sequence as a whole, all of whose ids are fed then: see TargetedSequence.
  std::vector<float> targets = {};
  /// For objectives that prefer one sequence to another (PreferenceDataset): the other, and its labels.
  std::vector<TokenId> rejected_ids = {}, rejected_labels = {};
};

/// Samples by their index. Immutable: shared between threads without locks.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// How many samples there are, at least 1.
  virtual std::int64_t size() const noexcept = 0;

  /// Sample `index` of 0 to size() - 1, of at least 2 ids, or 1 where there are targets. Throws ArgumentError for another index.
  virtual Sample at(std::int64_t index) const = 0;

  /// How many ids at(index) has, without making the sample. Throws as at().
  virtual std::int64_t length(std::int64_t index) const = 0;

  /// A number of all samples and their order: that of a data set with another one is another, so that a run is not
  /// resumed with other data. It does not depend on where the data lie or how they are stored.
  virtual std::uint64_t fingerprint() const noexcept = 0;
};

/// What a data set amounts to.
struct DatasetCounts {
  std::int64_t samples = 0;
  std::int64_t tokens = 0;   // that are fed: one less than the ids of a sample
  std::int64_t learned = 0;  // of them with a label to predict
  std::int64_t longest = 0;  // ids of a sample
};

/// Looks at every sample. Throws CancelledError, and as Dataset::at.
DatasetCounts count(const Dataset& data, std::stop_token stop = {});

/// How far the making of a data set has come.
struct DatasetProgress {
  std::int64_t done_bytes = 0;  // of the text that is encoded
  std::int64_t total_bytes = 0;
};

using DatasetProgressCallback = std::function<void(const DatasetProgress&)>;

}  // namespace gpt
