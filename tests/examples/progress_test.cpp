// What people see of a training run's progress.
#include "examples/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "gpt/text/utf8.h"

namespace program {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr gpt::TrainingLog kLog{
    .step = 30, .total_steps = 120, .loss = 3.21456, .learning_rate = 4.4e-5, .tokens_per_s = 1234.4};

std::string repeat(std::string_view text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Progress, SaysHowLongInHours) {
  EXPECT_EQ(duration_text(0), "0:00:00");
  EXPECT_EQ(duration_text(59.6), "0:01:00");
  EXPECT_EQ(duration_text(3723), "1:02:03");
  EXPECT_EQ(duration_text(360000), "100:00:00");
  EXPECT_EQ(duration_text(-1), "0:00:00");
}

TEST(Progress, SaysAllOnOneLine) {
  EXPECT_EQ(progress_text(kLog, 754), "step 30/120  loss 3.2146  lr 4.40e-05  1234 tok/s  0:12:34 left");
  EXPECT_EQ(progress_text(kLog, std::nullopt), "step 30/120  loss 3.2146  lr 4.40e-05  1234 tok/s");
}

TEST(Progress, FillsABarAsFarAsTheRunIs) {
  const std::string values = "  loss 3.2146  lr 4.40e-05  1234 tok/s  0:12:34 left";
  EXPECT_EQ(progress_bar(kLog, 754, 200, false), "30/120 " + repeat("#", 7) + repeat(".", 23) + values);
  EXPECT_EQ(progress_bar(kLog, 754, 200, true),
            "30/120 " + repeat("\u2588", 7) + repeat("\u2591", 23) + values);
  gpt::TrainingLog end = kLog;
  end.step = 120;
  EXPECT_THAT(progress_bar(end, 0, 200, false), StartsWith("120/120 " + repeat("#", 30) + "  loss"));
}

TEST(Progress, FitsEveryTerminal) {
  for (int columns = 1; columns < 120; ++columns) {
    const std::string bar = progress_bar(kLog, 754, columns, false);
    EXPECT_LE(bar.size(), static_cast<std::size_t>(std::max(1, columns - 1)));
    EXPECT_TRUE(gpt::is_valid_utf8(progress_bar(kLog, 754, columns, true)));
  }
  EXPECT_EQ(progress_bar(kLog, 754, 80, false).size(), 79u);  // the bar takes what is left
  EXPECT_THAT(progress_bar(kLog, 754, 60, false), Not(HasSubstr("#")));
  EXPECT_THAT(progress_bar(kLog, 754, 60, false), StartsWith("30/120  loss 3.2146"));
}

}  // namespace
}  // namespace program
