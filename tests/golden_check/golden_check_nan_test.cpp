// A NaN, wherever it comes from, is never right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "compare.h"
#include "golden_edit.h"
#include "training_checks.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(GoldenCheckNan, StaysTheLargestOfErrors) {
  EXPECT_EQ(largest_of(1, 2), 2);
  EXPECT_EQ(largest_of(2, 1), 2);
  EXPECT_TRUE(std::isnan(largest_of(1, kNan)));
  EXPECT_TRUE(std::isnan(largest_of(kNan, 1)));
  EXPECT_EQ(smallest_of(1, 2), 1);
  EXPECT_TRUE(std::isnan(smallest_of(1, kNan)));
  EXPECT_TRUE(std::isnan(smallest_of(kNan, 1)));
}

TEST(GoldenCheckNan, HoldsForNoTolerance) {
  for (const double tolerance : {0.0, 1.0, std::numeric_limits<double>::infinity(), kNan}) {
    EXPECT_FALSE(holds(Outcome::compared(kNan, tolerance)));
    EXPECT_FALSE(holds(Outcome::compared(std::numeric_limits<double>::infinity(), tolerance)));
  }
}

TEST(GoldenCheckNan, FailsWhereItIsExpected) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  FolderCopy folder(committed("models/tiny"));
  for (const char* file :
       {"golden.safetensors", "golden_lora.safetensors", "golden_prompt_tuning.safetensors"})
    for (const char* tensor : {"train_grad_norm", "train_loss", "loss", "logits"}) {
      edit_element<float>(folder / file, tensor, 0, [nan](float) { return nan; });
      const Verdict verdict = folder.judge();
      EXPECT_EQ(verdict.exit_status, 1) << file << ' ' << tensor;
      EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({tensor})) << file;
      folder.restore();
    }
}

// The weights before the logits spoil all that comes after the blocks, and every gradient.
TEST(GoldenCheckNan, FailsWhereItIsComputed) {
  FolderCopy folder(committed("models/tiny"));
  for (const char* adapter : {"lora", "prompt_tuning", "dora", "adalora", "ia3", "prefix_tuning"}) {
    fs::remove_all(folder / adapter);
    for (const char* type : {".json", ".safetensors"})
      fs::remove(folder / (std::string("golden_") + adapter + type));
  }
  edit_element<float>(folder / "model.safetensors", "ln_f.bias", 3,
                      [](float) { return std::numeric_limits<float>::quiet_NaN(); });
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 1) << verdict.err;
  EXPECT_THAT(verdict.with_status("ok"), ElementsAreArray({"hidden.0", "hidden.1", "hidden.2"}));
}

}  // namespace
}  // namespace gpt::golden
