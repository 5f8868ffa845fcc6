// In which order, and how many at a time, samples are trained on.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gpt/train/dataset.h"

namespace gpt {

/// The numbers 0 to n - 1 in the random order of one epoch: every permutation is equally likely, and it depends on
/// (n, seed, epoch) alone. For i = n - 1, ..., 1 number i changes places with number r mod (i + 1) (Fisher and Yates;
/// Knuth, The Art of Computer Programming, 3.4.2, algorithm P), where r is the next number of CounterRng(seed, epoch) that is
/// at least 2^64 mod (i + 1), so that no remainder is likelier than another. Throws ArgumentError for a negative n or epoch.
std::vector<std::int64_t> epoch_order(std::int64_t n, std::uint64_t seed, std::int64_t epoch);

/// Limits of a batch; when both are set, both hold, and when neither is, per_device_train_batch_size is 8 as in
/// transformers.
struct BatchOptions {
  std::optional<std::int64_t> per_device_train_batch_size = {};  // samples
  /// Rows fed to the network: a sample of n ids takes n - 1. Samples of different lengths are packed into batches, which
  /// costs nothing and mixes nothing: a batch is ragged, without padding, and a sample attends to itself alone.
  std::optional<std::int64_t> max_tokens_per_batch = {};
};

/// The samples of each batch, so that every element of `order` is in one. By number alone: consecutive ones, the last batch
/// may be smaller. With max_tokens_per_batch: of every 1024 consecutive ones, the longest first, each goes into the first
/// batch that has room (first-fit decreasing: Johnson, 1973, at most 11/9 of the fewest batches and one more); batches come in
/// the order of their earliest sample, and so do the samples within. Depends on the lengths, the order and the limits alone.
/// Throws ArgumentError: a limit below 1, an index that the data set does not have, a sample longer than
/// max_tokens_per_batch.
std::vector<std::vector<std::int64_t>> plan_batches(const Dataset& dataset,
                                                    std::span<const std::int64_t> order,
                                                    const BatchOptions& options = {});

}  // namespace gpt
