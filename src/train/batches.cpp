#include "gpt/train/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"

namespace gpt {
namespace {

using SampleIndices = std::vector<std::int64_t>;

constexpr std::string_view kPlan = "plan_batches";
constexpr std::size_t kWindow = 1024;
constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

struct Limits {
  std::int64_t samples, rows;
};

Limits limits_of(const BatchOptions& options) {
  const auto at_least_one = [](std::string_view name, std::int64_t value) {
    if (value < 1) fail<ArgumentError>(kPlan, name, " is ", value, ", expected at least 1");
    return value;
  };
  constexpr std::int64_t kDefaultSamples = 8;  // TrainingArguments.per_device_train_batch_size
  Limits limits{kUnlimited, kUnlimited};
  if (options.per_device_train_batch_size)
    limits.samples = at_least_one("per_device_train_batch_size", *options.per_device_train_batch_size);
  else if (!options.max_tokens_per_batch)
    limits.samples = kDefaultSamples;
  if (options.max_tokens_per_batch)
    limits.rows = at_least_one("max_tokens_per_batch", *options.max_tokens_per_batch);
  return limits;
}

std::vector<std::int64_t> rows_of(const Dataset& dataset, std::span<const std::int64_t> order,
                                  const Limits& limits) {
  std::vector<std::int64_t> rows;
  rows.reserve(order.size());
  for (const std::int64_t index : order) {
    rows.push_back(dataset.length(index) - 1);
    if (rows.back() > limits.rows)
      fail<ArgumentError>(kPlan, "sample ", index, " takes ", rows.back(),
                          " tokens, but max_tokens_per_batch is ", limits.rows);
  }
  return rows;
}

// First-fit decreasing. Batches hold places in the window.
std::vector<SampleIndices> pack(std::span<const std::int64_t> rows, const Limits& limits) {
  SampleIndices places(rows.size());
  std::iota(places.begin(), places.end(), 0);
  const auto rows_at = [&](std::int64_t place) { return rows[static_cast<std::size_t>(place)]; };
  std::stable_sort(places.begin(), places.end(),
                   [&](std::int64_t a, std::int64_t b) { return rows_at(a) > rows_at(b); });
  std::vector<SampleIndices> batches;
  std::vector<std::int64_t> room;
  for (const std::int64_t place : places) {
    std::size_t i = 0;
    while (i < batches.size() &&
           (room[i] < rows_at(place) || static_cast<std::int64_t>(batches[i].size()) == limits.samples))
      ++i;
    if (i == batches.size()) {
      batches.emplace_back();
      room.push_back(limits.rows);
    }
    batches[i].push_back(place);
    room[i] -= rows_at(place);
  }
  // Back to the order of the samples: otherwise every window would begin with its longest.
  for (SampleIndices& batch : batches) std::sort(batch.begin(), batch.end());
  std::sort(batches.begin(), batches.end());
  return batches;
}

}  // namespace

std::vector<std::int64_t> epoch_order(std::int64_t n, std::uint64_t seed, std::int64_t epoch) {
  if (n < 0) fail<ArgumentError>("epoch_order", "n is ", n, ", expected at least 0");
  if (epoch < 0) fail<ArgumentError>("epoch_order", "epoch is ", epoch, ", expected at least 0");
  return with_memory_errors("epoch_order", [&] {
    using Order = std::vector<std::int64_t>;
    Order order(container_size<Order>(static_cast<std::size_t>(n), "epoch_order"));
    std::iota(order.begin(), order.end(), 0);
    const CounterRng rng(seed, static_cast<std::uint64_t>(epoch));
    std::uint64_t index = 0;
    for (std::uint64_t i = order.size(); i-- > 1;) {
      const std::uint64_t choices = i + 1;
      const std::uint64_t least = (0 - choices) % choices;  // 2^64 mod choices
      std::uint64_t r = rng.bits(index++);
      while (r < least) r = rng.bits(index++);
      std::swap(order[i], order[r % choices]);
    }
    return order;
  });
}

std::vector<SampleIndices> plan_batches(const Dataset& dataset, std::span<const std::int64_t> order,
                                        const BatchOptions& options) {
  const Limits limits = limits_of(options);
  return with_memory_errors(kPlan, [&] {
    const std::vector<std::int64_t> rows = rows_of(dataset, order, limits);
    std::vector<SampleIndices> plan;
    const std::size_t window =
        options.max_tokens_per_batch ? kWindow : static_cast<std::size_t>(limits.samples);
    for (std::size_t begin = 0, size; begin < order.size(); begin += size) {
      size = std::min(window, order.size() - begin);
      for (SampleIndices& batch : pack(std::span(rows).subspan(begin, size), limits)) {
        for (std::int64_t& place : batch) place = order[begin + static_cast<std::size_t>(place)];
        plan.push_back(std::move(batch));
      }
    }
    return plan;
  });
}

}  // namespace gpt
