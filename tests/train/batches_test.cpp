#include "gpt/train/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using Indices = std::vector<std::int64_t>;
using test::expect_error;
using testing::ElementsAreArray;
using testing::IsEmpty;

Indices iota(std::int64_t n) {
  Indices all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Computed from the definition by a program in Python.
TEST(EpochOrder, IsTheSameEverywhere) {
  EXPECT_THAT(epoch_order(10, 42, 0), ElementsAreArray({2, 8, 7, 0, 1, 6, 4, 5, 3, 9}));
  EXPECT_THAT(epoch_order(10, 42, 1), ElementsAreArray({5, 6, 4, 3, 2, 8, 0, 1, 7, 9}));
  EXPECT_THAT(epoch_order(10, (std::uint64_t{1} << 40) + 7, 3),
              ElementsAreArray({7, 8, 0, 2, 6, 3, 5, 9, 4, 1}));
  const Indices long_one = epoch_order(1000, 1, 2);
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < long_one.size(); ++i) sum += static_cast<std::int64_t>(i + 1) * long_one[i];
  EXPECT_EQ(sum, 249534655);
}

TEST(EpochOrder, IsAPermutation) {
  for (std::int64_t n = 0; n < 40; ++n) {
    Indices order = epoch_order(n, 7, n);
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, iota(n));
  }
}

TEST(EpochOrder, GivesEveryPermutationAsOften) {
  constexpr int kRuns = 24'000;
  std::vector<int> count(24);
  std::vector<Indices> permutations;
  Indices p = iota(4);
  do permutations.push_back(p);
  while (std::next_permutation(p.begin(), p.end()));
  for (int run = 0; run < kRuns; ++run) {
    const auto at = std::lower_bound(permutations.begin(), permutations.end(), epoch_order(4, 11, run));
    ++count[static_cast<std::size_t>(at - permutations.begin())];
  }
  // Pearson's statistic: 23 degrees of freedom, above 49.7 once in a thousand seeds.
  double chi_squared = 0;
  for (const int c : count) chi_squared += (c - 1000.0) * (c - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 49.7);
}

TEST(EpochOrder, RefusesNegativeNumbers) {
  expect_error<ArgumentError>([] { epoch_order(-1, 0, 0); }, {"epoch_order", "n is -1"});
  expect_error<ArgumentError>([] { epoch_order(3, 0, -2); }, {"epoch_order", "epoch is -2"});
}

/// Samples that take the given numbers of rows.
class Rows final : public Dataset {
 public:
  explicit Rows(Indices rows) : rows_(std::move(rows)) {}
  std::int64_t size() const noexcept override { return static_cast<std::int64_t>(rows_.size()); }
  Sample at(std::int64_t index) const override {
    const std::vector<TokenId> ids(static_cast<std::size_t>(length(index)));
    return {ids, ids};
  }
  std::int64_t length(std::int64_t index) const override {
    if (index < 0 || index >= size()) fail<ArgumentError>("rows", "no sample ", index);
    return rows_[static_cast<std::size_t>(index)] + 1;
  }
  std::uint64_t fingerprint() const noexcept override { return 0; }

 private:
  Indices rows_;
};

TEST(PlanBatches, TakesConsecutiveSamplesByNumber) {
  const Rows dataset({5, 1, 1, 9, 1, 1, 1});
  const Indices order{6, 3, 0, 2, 1, 5, 4};
  EXPECT_THAT(plan_batches(dataset, order, {.per_device_train_batch_size = 3}),
              ElementsAreArray({Indices{6, 3, 0}, Indices{2, 1, 5}, Indices{4}}));
  EXPECT_THAT(plan_batches(dataset, Indices{2, 0}, {.per_device_train_batch_size = 1}),
              ElementsAreArray({Indices{2}, Indices{0}}));
  EXPECT_THAT(plan_batches(dataset, Indices{}, {}), IsEmpty());
}

TEST(PlanBatches, TakesEightSamplesWhenNothingIsAsked) {
  const auto plan = plan_batches(Rows(Indices(9, 1)), iota(9));
  EXPECT_THAT(plan, ElementsAreArray({iota(8), Indices{8}}));
}

TEST(PlanBatches, PacksTheLongestFirstIntoTheFirstThatHasRoom) {
  // By decreasing length: 7 and later 3, 6 and later 4, 5 and later 2.
  const Rows dataset({4, 3, 7, 5, 6, 2});
  EXPECT_THAT(plan_batches(dataset, iota(6), {.max_tokens_per_batch = 10}),
              ElementsAreArray({Indices{0, 4}, Indices{1, 2}, Indices{3, 5}}));
  // Reversed: the same lengths meet, places in the order decide the rest.
  EXPECT_THAT(plan_batches(dataset, Indices{5, 4, 3, 2, 1, 0}, {.max_tokens_per_batch = 10}),
              ElementsAreArray({Indices{5, 3}, Indices{4, 0}, Indices{2, 1}}));
}

TEST(PlanBatches, KeepsBothLimits) {
  const Rows dataset({1, 1, 1, 1, 1, 6});
  EXPECT_THAT(plan_batches(dataset, iota(6), {.per_device_train_batch_size = 2, .max_tokens_per_batch = 6}),
              ElementsAreArray({Indices{0, 1}, Indices{2, 3}, Indices{4}, Indices{5}}));
}

TEST(PlanBatches, HasEverySampleOnceWithinTheBudgetAndInFewBatches) {
  const CounterRng rng(5);
  Indices rows;
  for (std::uint64_t i = 0; i < 5000; ++i) rows.push_back(1 + static_cast<std::int64_t>(rng.bits(i) % 100));
  const Rows dataset(rows);
  const Indices order = epoch_order(dataset.size(), 3, 0);
  const auto plan = plan_batches(dataset, order, {.max_tokens_per_batch = 128});
  Indices seen;
  for (const Indices& batch : plan) {
    std::int64_t sum = 0;
    for (const std::int64_t index : batch) sum += rows[static_cast<std::size_t>(index)];
    ASSERT_LE(sum, 128);
    ASSERT_FALSE(batch.empty());
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, iota(dataset.size()));
  const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  // 5 windows, each at most 11/9 of what its tokens need and one more (and less than a batch of rounding up).
  EXPECT_LE(static_cast<double>(plan.size()), 11.0 / 9.0 * static_cast<double>(total) / 128.0 + 5 * 2.3);
}

TEST(PlanBatches, MixesSamplesOfOneWindowOnly) {
  const Rows dataset(Indices(3000, 1));
  const Indices order = epoch_order(3000, 9, 0);
  const auto plan = plan_batches(dataset, order, {.max_tokens_per_batch = 500});
  std::set<std::int64_t> first;
  for (std::size_t i = 0; i < 3; ++i) first.insert(plan.at(i).begin(), plan.at(i).end());
  EXPECT_EQ(first, std::set<std::int64_t>(order.begin(), order.begin() + 1024));
}

TEST(PlanBatches, RefusesImpossibleLimitsAndSamples) {
  const Rows dataset({1, 20});
  expect_error<ArgumentError>([&] { plan_batches(dataset, iota(2), {.per_device_train_batch_size = 0}); },
                              {"plan_batches", "per_device_train_batch_size is 0", "at least 1"});
  expect_error<ArgumentError>([&] { plan_batches(dataset, iota(2), {.max_tokens_per_batch = -1}); },
                              {"max_tokens_per_batch is -1"});
  expect_error<ArgumentError>([&] { plan_batches(dataset, iota(2), {.max_tokens_per_batch = 19}); },
                              {"sample 1 takes 20 tokens", "19"});
  expect_error<ArgumentError>([&] { plan_batches(dataset, Indices{0, 2}, {}); }, {"no sample 2"});
  EXPECT_EQ(plan_batches(dataset, iota(2), {.max_tokens_per_batch = 20}).size(), 2u);
}

}  // namespace
}  // namespace gpt
