// How good the order is that things are put in: what recommender systems and searches are measured by.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gpt {

/// The indices of the scores, the highest first; of equal ones the lower index first. Throws ArgumentError for a score that is not a
/// number, MemoryError.
std::vector<std::int64_t> best_first(std::span<const double> scores);

/// What each thing of one ranking is worth to the one who gets it, in the order of the ranking: 0 or more, such as 1 for what was
/// looked for and 0 for the rest.
using RankedGains = std::vector<double>;

// Means over the rankings. All throw ArgumentError: no rankings, k below 1, a gain that is negative or not finite.

/// The part of the rankings that have a gain among their first k.
double hit_rate(std::span<const RankedGains> rankings, std::int64_t k);

/// NDCG at k (Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002), as scikit-learn's ndcg_score: the sum of
/// gain / log2(1 + place) over the first k places, counted from 1, divided by what the best order would have. A ranking without any
/// gain counts 0.
double ndcg(std::span<const RankedGains> rankings, std::int64_t k);

/// The mean of 1 / place of the first gain, places counted from 1; 0 for a ranking without any.
double mean_reciprocal_rank(std::span<const RankedGains> rankings);

}  // namespace gpt
