// Measures of rankings against values worked out by hand, and against one that scikit-learn documents.
#include "gpt/evaluate/ranking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One sum of at most five terms, each of a few roundings: 1e-14 of values below 2.
constexpr double kRankingRounding = 1e-14;

TEST(BestFirst, PutsTheLowerIndexOfEqualScoresFirst) {
  EXPECT_THAT(best_first(std::vector<double>{0.5, 2, -1, 2, 0.5}), ElementsAreArray({1, 3, 0, 4, 2}));
  EXPECT_THAT(best_first(std::vector<double>{}), IsEmpty());
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_THAT(best_first(std::vector<double>{-infinity, 1, infinity}), ElementsAreArray({2, 1, 0}));
  EXPECT_THAT(message_of<ArgumentError>([] {
                best_first(std::vector<double>{1, std::nan("")});
              }),
              HasSubstr("score 1 is not a number"));
}

TEST(HitRate, CountsRankingsWithAGainAmongTheFirst) {
  const std::vector<RankedGains> rankings{{1, 0, 0}, {0, 0, 1}, {0, 0.25, 0}, {0, 0, 0}};
  EXPECT_EQ(hit_rate(rankings, 1), 0.25);
  EXPECT_EQ(hit_rate(rankings, 2), 0.5);
  EXPECT_EQ(hit_rate(rankings, 3), 0.75);
  EXPECT_EQ(hit_rate(rankings, 100), 0.75);
}

// The example of scikit-learn's ndcg_score: true_relevance [10, 0, 0, 1, 5] with the scores [.1, .2, .3, 4, 70] has 0.69569...,
// the first 4 with the scores [.05, 1.1, 1., .5, .0] 0.35202...
TEST(Ndcg, IsThatOfScikitLearn) {
  EXPECT_NEAR(ndcg(std::vector<RankedGains>{{5, 1, 0, 0, 10}}, 5), 0.6956940443813076, 1e-13);
  EXPECT_NEAR(ndcg(std::vector<RankedGains>{{0, 0, 1, 10, 5}}, 4), 0.3520241100634489, 1e-13);
}

TEST(Ndcg, OfOneThingIsOneThroughTheLogarithmOfItsPlace) {
  const std::vector<RankedGains> first{{1, 0, 0, 0}}, third{{0, 0, 1, 0}}, both{{1, 0, 0, 0}, {0, 0, 1, 0}};
  EXPECT_NEAR(ndcg(first, 3), 1, kRankingRounding);
  EXPECT_NEAR(ndcg(third, 3), 0.5, kRankingRounding);  // 1 / log2(4)
  EXPECT_EQ(ndcg(third, 2), 0);
  EXPECT_NEAR(ndcg(both, 3), 0.75, kRankingRounding);
  EXPECT_EQ(ndcg(std::vector<RankedGains>{{0, 0}}, 2), 0);
}

// The best order may hold more gains than fit into the first k: only k of them are what could be had.
TEST(Ndcg, IsWholeWhereTheFirstAreTheBest) {
  EXPECT_NEAR(ndcg(std::vector<RankedGains>{{3, 2, 1, 1}}, 2), 1, kRankingRounding);
}

TEST(MeanReciprocalRank, IsOfTheFirstGain) {
  const std::vector<RankedGains> rankings{{1, 1}, {0, 1}, {0, 0, 0, 2}, {0}};
  EXPECT_DOUBLE_EQ(mean_reciprocal_rank(rankings), (1 + 0.5 + 0.25) / 4);
}

TEST(Rankings, NameWhatCannotBeMeasured) {
  const std::vector<RankedGains> none, fine{{1, 0}}, negative{{1}, {0, -1}}, infinite{{HUGE_VAL}};
  EXPECT_THAT(message_of<ArgumentError>([&] { hit_rate(none, 1); }), HasSubstr("no rankings"));
  EXPECT_THAT(message_of<ArgumentError>([&] { mean_reciprocal_rank(none); }), HasSubstr("no rankings"));
  EXPECT_THAT(message_of<ArgumentError>([&] { ndcg(fine, 0); }), HasSubstr("k is 0"));
  EXPECT_THAT(message_of<ArgumentError>([&] { ndcg(negative, 1); }), HasSubstr("ranking 1 has the gain -1"));
  EXPECT_THAT(message_of<ArgumentError>([&] { hit_rate(infinite, 1); }), HasSubstr("ranking 0"));
}

}  // namespace
}  // namespace gpt
