// Inputs that a check does not read must still be those that the expected values were computed from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

void expect_only(const Verdict& verdict, const std::string& quantity) {
  EXPECT_EQ(verdict.exit_status, 1) << quantity << '\n' << verdict.err;
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({quantity}));
  EXPECT_THAT(verdict.err, HasSubstr(quantity));
}

TEST(GoldenCheckInput, DoesNotBelieveALargestMagnitudeThatIsNotTheTensors) {
  FolderCopy folder(committed("models/tiny"));
  for (const char* tensor : {"logits", "adamw5.wte.weight", "train_grad_norm", "loss"})
    for (const double factor : {1e12, 1.01, 0.5, -1.0}) {
      edit_json(folder / "golden.json", [&](Json& json) {
        Json& magnitude = json["tolerances"][tensor]["max_abs"];
        magnitude = magnitude.get<double>() * factor;
      });
      const Verdict verdict = folder.judge();
      expect_only(verdict, std::string("tolerances.") + tensor + ".max_abs");
      EXPECT_EQ(verdict.line(tensor).status, "ok");
      folder.restore();
    }
}

TEST(GoldenCheckInput, GrantsNoToleranceForALargestMagnitudeThatIsNotTheTensors) {
  FolderCopy folder(committed("models/tiny"));
  edit_json(folder / "golden.json", [&](Json& json) { json["tolerances"]["logits"]["max_abs"] = 1e12; });
  edit_element<float>(folder / "golden.safetensors", "logits", 3, [](float x) { return x + 0.1f; });
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 1);
  EXPECT_EQ(verdict.line("logits").status, "FAIL");
}

}  // namespace
}  // namespace gpt::golden
