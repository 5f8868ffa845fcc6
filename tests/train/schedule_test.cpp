// The values of "constant", "linear" and "cosine" are compared with transformers' by golden_check.
#include "gpt/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

TEST(Schedule, WarmsUpFromZero) {
  for (const auto type : {LrScheduler::kConstantWithWarmup, LrScheduler::kLinear, LrScheduler::kCosine,
                          LrScheduler::kCosineWithMinLr, LrScheduler::kWarmupStableDecay}) {
    const ScheduleOptions s{.type = type, .warmup_steps = 4, .total_steps = 20, .decay_steps = 5};
    EXPECT_EQ(learning_rate_factor(s, 0), 0) << name_of(type);
    EXPECT_EQ(learning_rate_factor(s, 3), 0.75) << name_of(type);
    EXPECT_EQ(learning_rate_factor(s, 4), 1) << name_of(type);
  }
  EXPECT_EQ(learning_rate_factor({.type = LrScheduler::kConstant, .warmup_steps = 4, .total_steps = 20}, 0),
            1);
}

TEST(Schedule, DoesNotDependOnTheHostsRounding) {
  for (const auto type : {LrScheduler::kLinear, LrScheduler::kCosine, LrScheduler::kCosineWithMinLr,
                          LrScheduler::kWarmupStableDecay}) {
    const ScheduleOptions s{
        .type = type, .warmup_steps = 3, .total_steps = 30, .min_lr_rate = 0.1, .decay_steps = 7};
    for (std::int64_t step = 0; step < 30; ++step) {
      const double expected = learning_rate_factor(s, step);
      const test::RoundingUpward host;
      EXPECT_EQ(learning_rate_factor(s, step), expected) << name_of(type) << " at step " << step;
    }
  }
}

TEST(Schedule, EndsAtTheMinimum) {
  const ScheduleOptions cosine{.type = LrScheduler::kCosineWithMinLr, .total_steps = 10, .min_lr_rate = 0.1};
  EXPECT_NEAR(learning_rate_factor(cosine, 5), 0.55, 1e-15);
  EXPECT_NEAR(learning_rate_factor(cosine, 10), 0.1, 1e-15);
  ScheduleOptions stable{
      .type = LrScheduler::kWarmupStableDecay, .warmup_steps = 2, .total_steps = 20, .decay_steps = 8};
  stable.min_lr_rate = 0.2;
  EXPECT_EQ(learning_rate_factor(stable, 11), 1);
  EXPECT_EQ(learning_rate_factor(stable, 12), 1);
  EXPECT_NEAR(learning_rate_factor(stable, 16), 0.6, 1e-15);
  EXPECT_NEAR(learning_rate_factor(stable, 18), 0.2 + 0.4 * (1 + std::cos(3.14159265358979323846 * 0.75)),
              1e-14);
  EXPECT_EQ(learning_rate_factor(stable, 20), 0.2);
  EXPECT_EQ(learning_rate_factor(stable, 25), 0.2);
}

TEST(Schedule, NamesThemAsTransformersDoes) {
  for (const auto* name : {"constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr",
                           "warmup_stable_decay"}) {
    ASSERT_TRUE(lr_scheduler_from_name(name)) << name;
    EXPECT_EQ(name_of(*lr_scheduler_from_name(name)), name);
  }
  EXPECT_FALSE(lr_scheduler_from_name("polynomial"));
}

TEST(Schedule, RefusesOptionsOutOfRange) {
  using test::message_of;
  EXPECT_EQ(message_of<ArgumentError>([] { learning_rate_factor({.warmup_steps = -1}, 0); }),
            "[lr_scheduler] warmup_steps is -1, expected 0 or more");
  EXPECT_EQ(message_of<ArgumentError>([] { learning_rate_factor({.min_lr_rate = 1.5}, 0); }),
            "[lr_scheduler] min_lr_rate is 1.5, expected 0 to 1");
  EXPECT_EQ(message_of<ArgumentError>([] { learning_rate_factor({}, -3); }),
            "[lr_scheduler] step is -3, expected 0 or more");
}

}  // namespace
}  // namespace gpt
