#include "gpt/core/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "support/rounding_upward.h"

namespace gpt {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers from Random123's kat_vectors, philox4x32 with 10 rounds.
static_assert(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
static_assert(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
              Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
static_assert(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
              Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});

TEST(CounterRng, SeedIsTheKeyAndIndexAndStreamAreTheCounter) {
  const auto two = [](std::uint64_t low, std::uint64_t high) { return low | high << 32; };
  EXPECT_EQ(CounterRng(0, 0).bits(0), two(0x6627e8d5, 0xe169c58d));
  EXPECT_EQ(CounterRng(~0ull, ~0ull).bits(~0ull), two(0x408f276d, 0x41c83b0e));
  const CounterRng pi(two(0xa4093822, 0x299f31d0), two(0x13198a2e, 0x03707344));
  EXPECT_EQ(pi.bits(two(0x243f6a88, 0x85a308d3)), two(0xd16cfe09, 0x94fdcceb));
}

TEST(CounterRng, TheSecondUniformIsTheOtherHalfOfTheWords) {
  const CounterRng zero(0, 0);  // 6627e8d5 e169c58d bc57ac4c 9b00dbd8
  EXPECT_EQ(zero.uniform(0), std::ldexp(static_cast<double>(0xe169c58d6627e8d5ull >> 11), -53));
  EXPECT_EQ(zero.second_uniform(0), std::ldexp(static_cast<double>(0x9b00dbd8bc57ac4cull >> 11), -53));
}

TEST(CounterRng, SeedsStreamsAndIndicesAllMatter) {
  std::set<std::uint64_t> seen;
  for (const std::uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (const std::uint64_t stream : {0ull, 1ull, 1ull << 32})
      for (const std::uint64_t index : {0ull, 1ull, 1ull << 32})
        seen.insert(CounterRng(seed, stream).bits(index));
  EXPECT_EQ(seen.size(), 27u);
}

TEST(CounterRng, UniformFillsTheUnitIntervalEvenly) {
  const CounterRng rng(1);
  constexpr int kSamples = 100'000, kBins = 20;
  std::array<int, kBins> bins{};
  for (int i = 0; i < kSamples; ++i) {
    const double u = rng.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ASSERT_EQ(std::ldexp(u, 53), std::rint(std::ldexp(u, 53)));
    ++bins[static_cast<std::size_t>(u * kBins)];
  }
  const double expected = static_cast<double>(kSamples) / kBins;
  double chi_squared = 0;
  for (const int count : bins) chi_squared += (count - expected) * (count - expected) / expected;
  EXPECT_LT(chi_squared, 43.8);  // 19 degrees of freedom: exceeded once in a thousand seeds
}

TEST(CounterRng, NormalHasTheMomentsAndTailsOfTheStandardNormal) {
  constexpr int kSamples = 400'000;
  const CounterRng rng(7, 3);
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  int within_one = 0, beyond_three = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = rng.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    within_one += std::fabs(x) < 1;
    beyond_three += std::fabs(x) > 3;
  }
  // Four standard errors: the k-th moments have variances 1, 2, 15, 96 per sample.
  const double error = 4 / std::sqrt(static_cast<double>(kSamples));
  EXPECT_NEAR(sum / kSamples, 0.0, error);
  EXPECT_NEAR(squares / kSamples, 1.0, error * std::sqrt(2.0));
  EXPECT_NEAR(cubes / kSamples, 0.0, error * std::sqrt(15.0));
  EXPECT_NEAR(fourths / kSamples, 3.0, error * std::sqrt(96.0));
  const auto expect_share = [&](int count, double p) {
    EXPECT_NEAR(static_cast<double>(count) / kSamples, p, error * std::sqrt(p * (1 - p)));
  };
  expect_share(within_one, 0.6826894921370859);
  expect_share(beyond_three, 0.0026997960632602);
}

TEST(CounterRng, NeighbouringNormalsAreUncorrelated) {
  constexpr int kSamples = 200'000;
  const CounterRng rng(9);
  double sum = 0;
  for (std::uint64_t i = 0; i < kSamples; ++i) sum += rng.normal(i) * rng.normal(i + 1);
  EXPECT_NEAR(sum / kSamples, 0.0, 4 / std::sqrt(static_cast<double>(kSamples)));
}

TEST(CounterRng, TheHostsRoundingChangesNoBit) {
  const CounterRng rng(9);
  const auto draw = [&] {
    std::vector<double> all;
    for (std::uint64_t i = 0; i < 1000; ++i)
      for (const double x : {rng.uniform(i), rng.second_uniform(i), rng.normal(i)}) all.push_back(x);
    return all;
  };
  const std::vector<double> expected = draw();
  const test::RoundingUpward host;
  EXPECT_EQ(draw(), expected);
}

}  // namespace
}  // namespace gpt
