#include "gpt/train/preference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/math.h"
#include "train/dataset_checks.h"
#include "train/fed_rows.h"
#include "train/jsonl_line.h"

namespace gpt {
namespace {

constexpr std::string_view kPreference = "preference";

std::vector<TokenId> labels_of(const MaskedIds& sequence) {
  std::vector<TokenId> labels(sequence.ids);
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (!sequence.learned[i]) labels[i] = kIgnoredLabel;
  return labels;
}

/// log(1 + e^x)
double softplus(double x) noexcept {
  return x > 0 ? x + math::log(1 + math::exp(-x)) : math::log(1 + math::exp(x));
}

double sigmoid(double x) noexcept {
  return x >= 0 ? 1 / (1 + math::exp(-x)) : math::exp(x) / (1 + math::exp(x));
}

/// Of rewards of the better and the worse answer.
class RewardMetrics final : public Metrics {
 public:
  void add(const Sample&, std::span<const float> rewards) override {
    const double margin = static_cast<double>(rewards[0]) - static_cast<double>(rewards[1]);
    right_ += margin > 0;
    margins_ += margin;
    ++count_;
  }
  Values values() const override try {
    const auto n = static_cast<double>(count_);
    return {{"rewards/accuracies", static_cast<double>(right_) / n}, {"rewards/margins", margins_ / n}};
  } catch (...) {
    rethrow_with_memory_errors(kPreference);
  }

 private:
  std::int64_t right_ = 0, count_ = 0;
  double margins_ = 0;
};

std::int64_t labelled(std::span<const TokenId> labels) {
  return std::ranges::count_if(labels.subspan(1), [](TokenId label) { return label != kIgnoredLabel; });
}

}  // namespace

PreferenceDataset::PreferenceDataset(std::vector<Sample> pairs) : pairs_(std::move(pairs)) {
  if (pairs_.empty()) fail<ArgumentError>(kPreference, "there are no pairs");
  for (std::size_t i = 0; i < pairs_.size(); ++i)
    for (const auto& [ids, labels] : {std::pair(&pairs_[i].ids, &pairs_[i].labels),
                                      std::pair(&pairs_[i].rejected_ids, &pairs_[i].rejected_labels)}) {
      if (ids->size() < 2 || labels->size() != ids->size())
        fail<ArgumentError>(kPreference, "a sequence of pair ", i, " has ", ids->size(), " ids and ",
                            labels->size(), " labels, expected 2 or more, and as many");
      if (labelled(*labels) == 0)
        fail<ArgumentError>(kPreference, "a sequence of pair ", i, " has no label after the first");
    }
}

PreferenceDataset PreferenceDataset::from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                               const PreferenceDatasetOptions& options) {
  if (options.max_length < 2)
    fail<ArgumentError>(kPreference, "max_length is ", options.max_length, ", expected at least 2");
  return with_memory_errors(path.native(), [&] {
    const std::string name = path.string();
    const MappedFile file(path);
    const std::string_view text = file.text();
    std::vector<Sample> pairs;
    std::int64_t number = 0, dropped = 0;
    for (std::size_t done = 0; done < text.size();) {
      if (options.stop.stop_requested()) fail<CancelledError>(name, "encoding stopped");
      const std::size_t end = std::min(text.find('\n', done), text.size());
      const std::string_view line = text.substr(done, end - done);
      done = end + 1;
      ++number;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const PreferenceIds pair =
          read_preference_line(line, concat(name, ":", number), tokenizer, options.parse_special_tokens);
      if (std::max(std::ssize(pair.chosen.ids), std::ssize(pair.rejected.ids)) > options.max_length) {
        ++dropped;
        continue;
      }
      pairs.push_back({.ids = pair.chosen.ids,
                       .labels = labels_of(pair.chosen),
                       .rejected_ids = pair.rejected.ids,
                       .rejected_labels = labels_of(pair.rejected)});
    }
    if (pairs.empty())
      fail<FormatError>(name, "has no usable pair: ", dropped,
                        " are longer than max_length = ", options.max_length);
    PreferenceDataset data(std::move(pairs));
    data.dropped_ = dropped;
    return data;
  });
}

std::pair<PreferenceDataset, PreferenceDataset> PreferenceDataset::split(double validation_fraction) const
    try {
  const std::int64_t middle = size() - validation_share(kPreference, validation_fraction, size());
  if (middle == 0 || middle == size())
    fail<ArgumentError>(kPreference, "validation_fraction ", validation_fraction, " leaves one side of ",
                        size(), " pairs without any");
  return {PreferenceDataset({pairs_.begin(), pairs_.begin() + middle}),
          PreferenceDataset({pairs_.begin() + middle, pairs_.end()})};
} catch (...) {
  rethrow_with_memory_errors(kPreference);
}

Sample PreferenceDataset::at(std::int64_t index) const {
  require_index(kPreference, index, size());
  return with_memory_errors(kPreference, [&] { return pairs_[static_cast<std::size_t>(index)]; });
}

std::int64_t PreferenceDataset::length(std::int64_t index) const {
  require_index(kPreference, index, size());
  const Sample& pair = pairs_[static_cast<std::size_t>(index)];
  return std::ssize(pair.ids) + std::ssize(pair.rejected_ids);
}

std::uint64_t PreferenceDataset::fingerprint() const noexcept {
  Fingerprint all;
  all.add("preference").add(size());
  for (const Sample& pair : pairs_)
    for (const auto* ids : {&pair.ids, &pair.labels, &pair.rejected_ids, &pair.rejected_labels}) {
      all.add(std::ssize(*ids));
      for (const TokenId id : *ids) all.add(id);
    }
  return all.value();
}

PreferenceObjective::PreferenceObjective(const Gpt2& network, PreferenceOptions options) : options_(options) {
  if (!(options.beta > 0) || !std::isfinite(options.beta))
    fail<ArgumentError>(kPreference, "beta is ", options.beta, ", expected more than 0");
  if (!(options.gamma >= 0) || !std::isfinite(options.gamma))
    fail<ArgumentError>(kPreference, "gamma is ", options.gamma, ", expected 0 or more");
  if (options.loss == PreferenceLoss::kSimpo) return;
  if (options.gamma != 0)
    fail<ArgumentError>(kPreference, "gamma is ", options.gamma, ", which belongs to SimPO");
  with_memory_errors(kPreference, [&] {
    auto reference = std::make_unique<Gpt2>(network);
    reference->attach(nullptr);
    reference_ = std::move(reference);
  });
}

LossSum PreferenceObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                  const ObjectiveOptions& options) const try {
  FedRows rows;
  for (const Sample& pair : samples) {
    rows.add(kPreference, pair.ids, pair.labels);
    rows.add(kPreference, pair.rejected_ids, pair.rejected_labels);
  }
  const TensorView hidden = run_rows(network, rows, arena, options);
  std::vector<double> losses(rows.labels.size()), of_reference(reference_ != nullptr ? losses.size() : 0);
  autograd::head_loss(nullptr, hidden, network.head(), rows.labels, ops::CrossEntropy(), 1, losses, arena,
                      options.stop);
  if (reference_ != nullptr) {
    Arena own;
    const TensorView seen = run_rows(*reference_, rows, own, {.stop = options.stop});
    autograd::head_loss(nullptr, seen, reference_->head(), rows.labels, ops::CrossEntropy(), 1, of_reference,
                        own, options.stop);
  }
  // The reward of a sequence, and what its log-probability is multiplied by there.
  const auto reward = [&](std::size_t sequence, double factor) {
    const auto own = rows.of_sequence(losses, sequence);
    double log_prob = -std::accumulate(own.begin(), own.end(), 0.0);
    if (reference_ != nullptr) {
      const auto theirs = rows.of_sequence(of_reference, sequence);
      log_prob += std::accumulate(theirs.begin(), theirs.end(), 0.0);
    }
    return factor * log_prob;
  };
  LossSum total;
  std::vector<float> weights(losses.size());  // of the rows: the gradient of the pair's loss by theirs
  for (std::size_t i = 0; i < samples.size(); ++i) {
    double factors[2], rewards[2];
    for (const std::size_t side : {0u, 1u}) {
      const auto& labels = side == 0 ? samples[i].labels : samples[i].rejected_labels;
      factors[side] = options_.beta;
      if (reference_ == nullptr) factors[side] /= static_cast<double>(labelled(labels));
      rewards[side] = reward(2 * i + side, factors[side]);
    }
    const double margin = rewards[0] - rewards[1] - options_.gamma;
    const double value = softplus(-margin), slope = sigmoid(-margin);
    for (const std::size_t side : {0u, 1u}) {
      const auto first = static_cast<std::size_t>(rows.begin[2 * i + side]),
                 last = static_cast<std::size_t>(rows.begin[2 * i + side + 1]);
      for (std::size_t row = first; row < last; ++row)
        weights[row] = static_cast<float>((side == 0 ? slope : -slope) * factors[side]);
    }
    if (!options.per_sample.empty()) options.per_sample[i] = {value, 1};
    if (options.outputs != nullptr)
      options.outputs->push_back({static_cast<float>(rewards[0]), static_cast<float>(rewards[1])});
    total.sum += value;
    ++total.count;
  }
  if (options.tape == nullptr) return total;
  // The weights were not known before: the rows are visited a second time.
  const ops::CrossEntropy cross_entropy;
  const ops::RowLoss weighed = [&](const ops::LossRow& row) {
    ops::LossRow scaled = row;
    scaled.scale *= weights[static_cast<std::size_t>(row.index)];
    return cross_entropy(scaled);
  };
  autograd::head_loss(options.tape, hidden, network.head(), rows.labels, weighed,
                      static_cast<float>(options.scale), losses, arena, options.stop);
  return total;
} catch (...) {
  rethrow_with_memory_errors(kPreference);
}

std::unique_ptr<Metrics> PreferenceObjective::metrics() const try {
  return std::make_unique<RewardMetrics>();
} catch (...) {
  rethrow_with_memory_errors(kPreference);
}

std::string PreferenceObjective::describe() const {
  if (reference_ == nullptr) return concat("simpo, beta ", options_.beta, ", gamma ", options_.gamma);
  return concat("dpo, beta ", options_.beta, ", reference ", reference_->fingerprint());
}

}  // namespace gpt
