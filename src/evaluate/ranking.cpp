#include "gpt/evaluate/ranking.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string_view>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

constexpr std::string_view kRanking = "ranking";

void check_gains(std::span<const RankedGains> rankings, std::int64_t k) {
  if (rankings.empty()) fail<ArgumentError>(kRanking, "there are no rankings");
  if (k < 1) fail<ArgumentError>(kRanking, "k is ", k, ", expected 1 or more");
  for (std::size_t i = 0; i < rankings.size(); ++i)
    for (const double gain : rankings[i])
      if (!(gain >= 0) || !std::isfinite(gain))
        fail<ArgumentError>(kRanking, "ranking ", i, " has the gain ", gain, ", expected 0 or more");
}

std::span<const double> first_of(std::span<const double> gains, std::int64_t k) {
  return gains.first(std::min(gains.size(), static_cast<std::size_t>(k)));
}

double discounted(std::span<const double> gains) {
  double sum = 0;
  for (std::size_t i = 0; i < gains.size(); ++i)
    sum += gains[i] * math::log(2) / math::log(static_cast<double>(i + 2));
  return sum;
}

double share_of_best(const RankedGains& gains, std::int64_t k) {
  RankedGains best = gains;
  std::ranges::sort(best, std::greater<>());
  const double most = discounted(first_of(best, k));
  return most > 0 ? discounted(first_of(gains, k)) / most : 0;
}

template <class Measure>
double mean_over(std::span<const RankedGains> rankings, Measure&& measure) {
  double sum = 0;
  for (const RankedGains& gains : rankings) sum += measure(gains);
  return sum / static_cast<double>(rankings.size());
}

}  // namespace

std::vector<std::int64_t> best_first(std::span<const double> scores) {
  return with_memory_errors(kRanking, [&] {
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (std::isnan(scores[i])) fail<ArgumentError>(kRanking, "score ", i, " is not a number");
    std::vector<std::int64_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::ranges::stable_sort(order, std::greater<>(),
                             [&](std::int64_t i) { return scores[static_cast<std::size_t>(i)]; });
    return order;
  });
}

double hit_rate(std::span<const RankedGains> rankings, std::int64_t k) {
  check_gains(rankings, k);
  const DefaultFloatEnvironment environment;
  return mean_over(rankings, [k](const RankedGains& gains) {
    return std::ranges::any_of(first_of(gains, k), [](double gain) { return gain > 0; }) ? 1.0 : 0.0;
  });
}

double ndcg(std::span<const RankedGains> rankings, std::int64_t k) {
  check_gains(rankings, k);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kRanking, [&] {
    return mean_over(rankings, [k](const RankedGains& gains) { return share_of_best(gains, k); });
  });
}

double mean_reciprocal_rank(std::span<const RankedGains> rankings) {
  check_gains(rankings, 1);
  const DefaultFloatEnvironment environment;
  return mean_over(rankings, [](const RankedGains& gains) {
    const auto found = std::ranges::find_if(gains, [](double gain) { return gain > 0; });
    return found == gains.end() ? 0 : 1 / static_cast<double>(found - gains.begin() + 1);
  });
}

}  // namespace gpt
