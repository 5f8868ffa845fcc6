// A host that does not round to nearest.
#pragma once

#include <gtest/gtest.h>

#include <cfenv>

namespace gpt::test {

/// This thread rounds upwards while it lives; a failure when someone has changed that meanwhile.
class RoundingUpward {
 public:
  RoundingUpward() { std::fesetround(FE_UPWARD); }
  ~RoundingUpward() {
    const int left = std::fegetround();
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(left, FE_UPWARD);
  }
  RoundingUpward(const RoundingUpward&) = delete;
  RoundingUpward& operator=(const RoundingUpward&) = delete;
};

}  // namespace gpt::test
