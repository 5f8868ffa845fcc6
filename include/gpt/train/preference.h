// Learning from preferences: of two answers to a prompt, the better one is to become likelier.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "gpt/models/gpt2.h"
#include "gpt/text/tokenizer.h"
#include "gpt/train/dataset.h"
#include "gpt/train/objectives.h"

namespace gpt {

struct PreferenceDatasetOptions {
  std::int64_t max_length = 1024;  // ids of either sequence, at least 2; pairs with a longer one are left out
  bool parse_special_tokens = true;  // as JsonlDatasetOptions
  std::stop_token stop = {};         // checked before every line
};

/// Pairs of sequences: Sample::ids is the one that is preferred, Sample::rejected_ids the other. Kept in memory.
class PreferenceDataset final : public Dataset {
 public:
  /// Lines {"prompt": "…", "chosen": "…", "rejected": "…"} (TRL's format; other members are ignored), each answer encoded and ended
  /// as a completion in a JsonlDataset. Throws as JsonlDataset::from_file.
  static PreferenceDataset from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                     const PreferenceDatasetOptions& options = {});
  /// Pairs that are there already. Throws ArgumentError when there are none, or one has fewer than 2 ids on a side, or not as many
  /// labels.
  explicit PreferenceDataset(std::vector<Sample> pairs);

  /// As JsonlDataset::split.
  std::pair<PreferenceDataset, PreferenceDataset> split(double validation_fraction) const;
  /// Pairs that from_file left out.
  std::int64_t dropped() const noexcept { return dropped_; }

  std::int64_t size() const noexcept override { return std::ssize(pairs_); }
  Sample at(std::int64_t index) const override;
  std::int64_t length(std::int64_t index) const override;  // of both sequences
  std::uint64_t fingerprint() const noexcept override;

 private:
  std::vector<Sample> pairs_;
  std::int64_t dropped_ = 0;
};

enum class PreferenceLoss : std::uint8_t {
  kDpo,    // Rafailov et al., arXiv 2305.18290, equation 7
  kSimpo,  // Meng et al., arXiv 2405.14734, equation 6: no reference
};

struct PreferenceOptions {
  PreferenceLoss loss = PreferenceLoss::kDpo;
  double beta = 0.1;  // TRL's default; the authors of SimPO use 2 to 10
  double gamma = 0;   // kSimpo: the margin that the better answer shall have
};

/// With lp = sum over the labels of log p(label), the loss of a pair is -log sigmoid(m), where
///   kDpo    m = beta ((lp_chosen - ref_chosen) - (lp_rejected - ref_rejected)),  ref of the network before the training
///   kSimpo  m = beta (lp_chosen / labels_chosen - lp_rejected / labels_rejected) - gamma
/// Beside the loss it measures what TRL does: rewards/accuracies, rewards/margins (of the rewards beta (lp - ref); with kSimpo beta
/// lp / labels). No logits but those of autograd::kLossRows rows are held.
class PreferenceObjective final : public Objective {
 public:
  /// For kDpo the reference is `network` as it is now, without its adapter: make the objective before the training begins, or
  /// is resumed. The weights are shared with it as long as they are the same. Throws ArgumentError for beta that is not above 0, a
  /// negative gamma, a gamma with kDpo.
  explicit PreferenceObjective(const Gpt2& network, PreferenceOptions options = {});

  std::int64_t terms(const Sample&) const override { return 1; }
  std::int64_t fed(std::int64_t ids) const noexcept override { return ids - 2; }
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;
  std::unique_ptr<Metrics> metrics() const override;
  std::string describe() const override;

 private:
  PreferenceOptions options_;
  std::unique_ptr<const Gpt2> reference_;  // of kDpo
};

}  // namespace gpt
