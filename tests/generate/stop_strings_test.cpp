#include "generate/stop_strings.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gpt::generate {
namespace {

// The index of the piece at which the matcher stops, -1 when it never does.
int stops_at(const std::vector<std::string>& strings, const std::vector<std::string>& pieces) {
  StopStringMatcher matcher(strings);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (matcher.push(pieces[i])) return static_cast<int>(i);
  }
  return -1;
}

TEST(StopStringMatcher, FindsAStringInsideOneToken) { EXPECT_EQ(stops_at({"b"}, {"a", "abc", "b"}), 1); }

TEST(StopStringMatcher, FindsAStringAcrossTokens) {
  EXPECT_EQ(stops_at({"end."}, {"the e", "n", "", "d", ".", "x"}), 4);
  EXPECT_EQ(stops_at({"aab"}, {"a", "a", "a", "b"}), 3);
}

TEST(StopStringMatcher, FindsTheEarliestOfSeveral) {
  EXPECT_EQ(stops_at({"wxyz", "xy"}, {"w", "x", "y", "z"}), 2);
}

TEST(StopStringMatcher, DoesNotFindAnOldOccurrenceAgain) {
  const std::vector<std::string> strings = {"ab", "some longer string"};
  StopStringMatcher matcher(strings);
  EXPECT_TRUE(matcher.push("xxab"));
  EXPECT_FALSE(matcher.push("c"));
  EXPECT_FALSE(matcher.push(""));
  EXPECT_TRUE(matcher.push("ab"));
}

TEST(StopStringMatcher, WithoutStringsNeverStops) { EXPECT_EQ(stops_at({}, {"a", ""}), -1); }

TEST(StopStringMatcher, HandlesBytesThatAreNoText) {
  EXPECT_EQ(stops_at({std::string("\0\xff", 2)}, {std::string("a\0", 2), "\xff"}), 1);
}

}  // namespace
}  // namespace gpt::generate
