#include "gpt/core/shape.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

TEST(Shape, KnowsItsExtents) {
  const Shape s = {2, 3, 5};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s[0], 2);
  EXPECT_EQ(s[2], 5);
  EXPECT_EQ(s.numel(), 30);
  EXPECT_EQ(s.to_string(), "[2, 3, 5]");
  EXPECT_EQ(std::vector(s.begin(), s.end()), (std::vector<std::int64_t>{2, 3, 5}));
}

TEST(Shape, ScalarHasOneElementAndAnEmptyExtentNone) {
  EXPECT_EQ(Shape().rank(), 0);
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ(Shape().to_string(), "[]");
  EXPECT_EQ(Shape({4, 0, kLargest, kLargest}).numel(), 0);
}

TEST(Shape, EqualWhenRankAndExtentsAre) {
  EXPECT_EQ(Shape({2, 3}), Shape({2, 3}));
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_NE(Shape({2}), Shape({2, 1}));
  EXPECT_NE(Shape(), Shape({1}));
  EXPECT_NE(Shape({0}), Shape({0, 0}));
}

TEST(Shape, RefusesWhatCannotBe) {
  EXPECT_EQ(Shape({1, 1, 1, 1, 1, 1, 1, 2}).rank(), Shape::kMaxRank);
  expect_error<ShapeError>([] { Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}); }, {"rank 9", "8"});
  expect_error<ShapeError>([] { Shape({2, -1}); }, {"-1"});
  EXPECT_EQ(Shape({kLargest}).numel(), kLargest);
  expect_error<ShapeError>([] { Shape({kLargest, 2}); }, {"overflows"});
  expect_error<ShapeError>([] { Shape({std::int64_t{1} << 32, std::int64_t{1} << 32}); }, {"overflows"});
}

}  // namespace
}  // namespace gpt
