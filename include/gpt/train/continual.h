// Learning something new without forgetting what was learned before.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/models/model.h"
#include "gpt/train/dataset.h"
#include "gpt/train/objectives.h"

namespace gpt {

/// New samples, and behind them some old ones (a replay buffer: Robins, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal", 1995), all
/// of which an epoch mixes.
class ReplayDataset final : public Dataset {
 public:
  /// round(fraction x new samples) old ones, and at least one: the first of epoch_order(old samples, seed, 0), and where that is not enough, all
  /// of it and those of epoch 1, and so on. Both data sets must outlive it. Throws ArgumentError for a fraction that is not above 0, or is
  /// more than 100, and where there are no old samples.
  ReplayDataset(const Dataset& fresh, const Dataset& old, double fraction, std::uint64_t seed);

  /// How many samples are old ones.
  std::int64_t replayed() const noexcept { return std::ssize(chosen_); }

  std::int64_t size() const noexcept override { return fresh_.size() + replayed(); }
  Sample at(std::int64_t index) const override;
  std::int64_t length(std::int64_t index) const override;
  std::uint64_t fingerprint() const noexcept override;

 private:
  const Dataset& fresh_;
  const Dataset& old_;
  std::vector<std::int64_t> chosen_;
};

struct FisherOptions {
  std::int64_t samples = 0;  // the first of epoch_order(samples of the data, seed, 0); 0: all
  std::uint64_t seed = 0;
  std::function<bool(std::string_view name)> learns = {};  // as TrainingArguments
  std::stop_token stop = {};                               // asked before every matrix product
};

/// What elastic weight consolidation knows of a model that has learned something (Kirkpatrick et al., arXiv 1612.00796): its weights, and for
/// each how much the loss of the old data depends on it, the diagonal of the empirical Fisher information
///   F = sum over the samples of (d loss of the sample / d weight)^2, over the terms of all of them
/// in float32. Of the adapter where one is attached to the network, and of the parameters that an objective has of its own.
class FisherInformation {
 public:
  /// Without an adapter the network becomes float32, as it does in a training. Throws as Parameters and Objective::loss; UnsupportedError
  /// naming a matrix that is packed or quantized; CancelledError; ArgumentError for a negative number of samples.
  FisherInformation(Model& model, Objective& objective, const Dataset& old,
                    const FisherOptions& options = {});

  struct Entry {
    std::string name;  // as Parameter
    Tensor weights;    // float32, those that the old data were learned with
    Tensor fisher;     // float32 of the same shape
  };
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// A number of all of it.
  std::uint64_t fingerprint() const noexcept;

 private:
  std::vector<Entry> entries_;
};

/// An objective with lambda / 2 sum F (weight - old weight)^2 added to the mean loss of an update: equation 3. Parameters that the
/// information does not name are as free as before. The loss that is reported is the inner one's.
class EwcObjective final : public WrappedObjective {
 public:
  /// Throws ArgumentError for a lambda that is negative or not finite, and where there is no information.
  EwcObjective(std::shared_ptr<Objective> inner, std::shared_ptr<const FisherInformation> information,
               double lambda);

  /// Throws ShapeError for a parameter that has another shape than that of its name, ArgumentError where the information names none.
  void add_penalty(const Parameters& parameters) const override;
  /// What is added to the loss.
  double penalty(const Parameters& parameters) const;

 private:
  std::shared_ptr<const FisherInformation> information_;
  double lambda_;
};

}  // namespace gpt
