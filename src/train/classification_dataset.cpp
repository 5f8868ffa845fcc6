#include "gpt/train/classification_dataset.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "core/parallel_try.h"
#include "gpt/core/error.h"
#include "gpt/train/batches.h"
#include "train/dataset_checks.h"

namespace gpt {
namespace {

constexpr std::string_view kClassificationDataset = "ClassificationDataset";

/// Labels and the numbers that they have.
class TargetsOfLabels {
 public:
  explicit TargetsOfLabels(const Classifier& classifier) : classifier_(classifier) {
    const std::vector<std::string>& labels = classifier.labels();
    for (std::size_t i = 0; i < labels.size(); ++i)  // of several with one name the last, as label2id has it
      numbers_[labels[i]] = static_cast<std::int64_t>(i);
  }

  std::vector<float> of(const LabelledRow& row, std::string_view where) const {
    const ProblemType type = classifier_.problem_type();
    if (type == ProblemType::kMultiLabel) {
      std::vector<float> targets(classifier_.labels().size());
      for (const std::string& label : row.labels)
        targets[static_cast<std::size_t>(number_of(label, where))] = 1;
      return targets;
    }
    const std::size_t wanted =
        type == ProblemType::kSingleLabel ? 1 : static_cast<std::size_t>(classifier_.num_labels());
    if (row.labels.size() != wanted)
      fail<FormatError>(where, "has ", row.labels.size(), " labels, expected ", wanted);
    if (type == ProblemType::kSingleLabel) return {static_cast<float>(number_of(row.labels.front(), where))};
    std::vector<float> targets;
    for (const std::string& label : row.labels) {
      float value = 0;
      const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
      if (error != std::errc() || end != label.data() + label.size() || !std::isfinite(value))
        fail<FormatError>(where, "the label is \"", label, "\", expected a number");
      targets.push_back(value);
    }
    return targets;
  }

 private:
  std::int64_t number_of(const std::string& label, std::string_view where) const {
    const auto found = numbers_.find(label);
    if (found != numbers_.end()) return found->second;
    std::string known;
    for (std::size_t i = 0; i < std::min<std::size_t>(8, classifier_.labels().size()); ++i)
      known += concat(i == 0 ? "" : ", ", classifier_.labels()[i]);
    fail<FormatError>(where, "the label is \"", label, "\", expected one of ", known,
                      classifier_.labels().size() > 8 ? ", ..." : "");
  }

  const Classifier& classifier_;
  std::map<std::string, std::int64_t, std::less<>> numbers_;
};

}  // namespace

struct ClassificationDataset::Data {
  std::vector<Sample> samples;
  std::vector<std::int64_t> rows;
  std::int64_t bad = 0, truncated = 0;
  std::string first_bad;
  bool single = false;
};

ClassificationDataset::ClassificationDataset(const Classifier& classifier, std::span<const LabelledRow> rows,
                                             const ClassificationDatasetOptions& options) {
  with_memory_errors(kClassificationDataset, [&] {
    classifier.model().tokenizer();  // which says when there is none
    struct Encoded {
      Sample sample;
      bool truncated = false;
      std::string bad;
    };
    const TargetsOfLabels targets(classifier);
    std::vector<Encoded> all(rows.size());
    constexpr std::int64_t kGrain = 16;
    parallel_try(static_cast<std::int64_t>(rows.size()), kGrain, [&](std::int64_t i) {
      const LabelledRow& row = rows[static_cast<std::size_t>(i)];
      Encoded& encoded = all[static_cast<std::size_t>(i)];
      const std::string where = concat(options.source, ":", row.line);
      try {
        encoded.sample.targets = targets.of(row, where);
        try {
          encoded.sample.ids = classifier.encode(row.text, options.max_length, &encoded.truncated);
        } catch (const ArgumentError& error) {
          fail<FormatError>(where, "cannot be encoded: ", error.what());
        }
      } catch (const FormatError& error) {
        if (!options.skip_bad_rows) throw;
        encoded.bad = error.what();
        return;
      }
    });
    auto data = std::make_shared<Data>();
    data->single = classifier.problem_type() == ProblemType::kSingleLabel;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!all[i].bad.empty()) {
        if (++data->bad == 1) data->first_bad = all[i].bad;
        continue;
      }
      data->truncated += all[i].truncated;
      data->rows.push_back(static_cast<std::int64_t>(i));
      data->samples.push_back(std::move(all[i].sample));
    }
    if (data->samples.empty())
      fail<FormatError>(options.source, "has no usable row",
                        data->bad > 0 ? concat("; the first: ", data->first_bad) : "");
    order_.resize(data->samples.size());
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<std::int64_t>(i);
    data_ = std::move(data);
  });
}

std::int64_t ClassificationDataset::bad() const noexcept { return data_->bad; }
const std::string& ClassificationDataset::first_bad() const noexcept { return data_->first_bad; }
std::int64_t ClassificationDataset::truncated() const noexcept { return data_->truncated; }

std::vector<std::int64_t> ClassificationDataset::rows() const {
  return with_memory_errors(kClassificationDataset, [&] {
    std::vector<std::int64_t> rows;
    rows.reserve(order_.size());
    for (const std::int64_t i : order_) rows.push_back(data_->rows[static_cast<std::size_t>(i)]);
    return rows;
  });
}

std::vector<std::int32_t> ClassificationDataset::classes() const {
  if (!data_->single) fail<ArgumentError>(kClassificationDataset, "samples are not of one class each");
  return with_memory_errors(kClassificationDataset, [&] {
    std::vector<std::int32_t> classes;
    classes.reserve(order_.size());
    for (const std::int64_t i : order_)
      classes.push_back(
          static_cast<std::int32_t>(data_->samples[static_cast<std::size_t>(i)].targets.front()));
    return classes;
  });
}

ClassificationDataset ClassificationDataset::subset(std::span<const std::int64_t> samples) const {
  if (samples.empty()) fail<ArgumentError>(kClassificationDataset, "a part has no samples");
  return with_memory_errors(kClassificationDataset, [&] {
    ClassificationDataset part = *this;
    part.order_.clear();
    part.order_.reserve(samples.size());
    for (const std::int64_t i : samples) {
      require_index(kClassificationDataset, i, size());
      part.order_.push_back(order_[static_cast<std::size_t>(i)]);
    }
    return part;
  });
}

Sample ClassificationDataset::at(std::int64_t index) const {
  require_index(kClassificationDataset, index, size());
  return with_memory_errors(kClassificationDataset, [&] {
    return data_->samples[static_cast<std::size_t>(order_[static_cast<std::size_t>(index)])];
  });
}

std::int64_t ClassificationDataset::length(std::int64_t index) const {
  require_index(kClassificationDataset, index, size());
  const auto i = static_cast<std::size_t>(order_[static_cast<std::size_t>(index)]);
  return static_cast<std::int64_t>(data_->samples[i].ids.size());
}

std::uint64_t ClassificationDataset::fingerprint() const noexcept {
  Fingerprint sum;
  for (const std::int64_t i : order_) {
    const Sample& sample = data_->samples[static_cast<std::size_t>(i)];
    sum.add(sample.ids.size());
    for (const TokenId id : sample.ids) sum.add(id);
    for (const float target : sample.targets) sum.add(std::bit_cast<std::uint32_t>(target));
  }
  return sum.value();
}

std::vector<std::vector<std::int64_t>> stratified_folds(std::span<const std::int32_t> classes, std::int64_t k,
                                                        std::uint64_t seed) {
  const auto n = static_cast<std::int64_t>(classes.size());
  if (k < 2 || k > n) fail<ArgumentError>("stratified_folds", "k is ", k, ", expected 2 to ", n);
  return with_memory_errors("stratified_folds", [&] {
    std::vector<std::vector<std::int64_t>> folds(static_cast<std::size_t>(k));
    std::map<std::int32_t, std::vector<std::int64_t>> of_class;
    for (const std::int64_t i : epoch_order(n, seed, 0))
      of_class[classes[static_cast<std::size_t>(i)]].push_back(i);
    std::size_t next = 0;  // goes on from class to class, so that folds are of one size, too
    for (const auto& [number, samples] : of_class)
      for (const std::int64_t i : samples) folds[next++ % folds.size()].push_back(i);
    for (auto& fold : folds) std::ranges::sort(fold);
    return folds;
  });
}

}  // namespace gpt
