// Inputs that a check does not read must still be those that the expected values were computed from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_edit.h"
#include "gpt/models/model.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

void expect_only(const Verdict& verdict, const std::string& quantity) {
  EXPECT_EQ(verdict.exit_status, 1) << quantity << '\n' << verdict.err;
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({quantity}));
  EXPECT_THAT(verdict.err, HasSubstr(quantity));
}

TEST(GoldenCheckInput, FailsOnPositionsThatAreNotTheMasks) {
  FolderCopy folder(committed("models/tiny"));
  for (const char* tensor : {"pad_left_position_ids", "pad_right_position_ids"}) {
    EXPECT_EQ(folder.judge().line(tensor).status, "input");
    for (std::size_t i = 0; i < 36; ++i)
      edit_element<std::int64_t>(folder / "golden.safetensors", tensor, i,
                                 [](std::int64_t) { return std::int64_t{1000000}; });
    const Verdict verdict = folder.judge();
    expect_only(verdict, tensor);
    EXPECT_EQ(verdict.line(tensor).error, "36");
    folder.restore();
    edit_element<std::int64_t>(folder / "golden.safetensors", tensor, 3,  // row 0 has no padding
                               [](std::int64_t position) { return position + 1; });
    expect_only(folder.judge(), tensor);
    folder.restore();
  }
  edit_element<std::int64_t>(folder / "golden.safetensors", "pad_left_position_ids", 12,
                             [](std::int64_t) { return 5; });  // padding, where any valid position does
  EXPECT_EQ(folder.judge().exit_status, 0);
}

TEST(GoldenCheckInput, FailsOnAGreedyPromptThatIsNotTheOneInTheList) {
  FolderCopy folder(committed("models/tiny"));
  edit_element<std::int64_t>(folder / "golden.safetensors", "greedy_prompt", 0,
                             [](std::int64_t id) { return id == 0 ? 1 : id - 1; });
  expect_only(folder.judge(), "greedy_prompt");
}

TEST(GoldenCheckInput, FailsOnOtherParametersThatDecay) {
  FolderCopy folder(committed("models/tiny"));
  edit_json(folder / "golden.json", [](Json& json) {
    std::reverse(json["adamw"]["decayed"].begin(), json["adamw"]["decayed"].end());
  });
  EXPECT_EQ(folder.judge().exit_status, 0);
  for (const Json& decayed : {Json{"wte.weight"}, Json{"ln_f.weight"}, Json(Json::value_t::array)}) {
    edit_json(folder / "golden.json", [&](Json& json) { json["adamw"]["decayed"] = decayed; });
    const Verdict verdict = folder.judge();
    expect_only(verdict, "adamw");
    EXPECT_THAT(verdict.err, HasSubstr("decayed"));
    folder.restore();
  }
}

TEST(GoldenCheckInput, SkipsConstantsThatItDoesNotKnow) {
  FolderCopy folder(committed("models/tiny"));
  edit_json(folder / "golden.json", [](Json& json) {
    json["adamw"]["amsgrad"] = true;
    json["tolerances"]["logits"]["other"] = 1;
  });
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(verdict.with_status("skip"), ElementsAreArray({"adamw.amsgrad", "tolerances.logits.other"}));
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

TEST(GoldenCheckInput, RefusesLabelsThatAreNoTokens) {
  FolderCopy folder(committed("models/tiny"));
  for (const char* tensor : {"labels", "train_labels", "pad_left_labels"}) {
    edit_element<std::int64_t>(folder / "golden.safetensors", tensor, 5,
                               [](std::int64_t label) { return label + (std::int64_t{1} << 32); });
    const Verdict verdict = folder.judge();
    EXPECT_NE(verdict.exit_status, 0) << tensor;
    EXPECT_THAT(verdict.err, HasSubstr(tensor));
    folder.restore();
  }
}

TEST(GoldenCheckInput, RefusesFewerBatchesThanSteps) {
  FolderCopy folder(committed("models/tiny"));
  edit_safetensors(folder / "golden.safetensors", [](Json& header, std::string&) {
    // Of the same bytes, so that nothing else is wrong.
    for (const char* tensor : {"train_input_ids", "train_labels"}) {
      Json& shape = header.at(tensor).at("shape");
      shape[1] = shape[0].get<std::int64_t>() * shape[1].get<std::int64_t>();
      shape[0] = 1;
    }
  });
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_THAT(verdict.err,
              HasSubstr((folder / "golden.safetensors").string() + ": train_input_ids has shape [1, "));
}

TEST(GoldenCheckInput, RefusesRowsThatTheParameterDoesNotHave) {
  FolderCopy folder(committed("models/tiny"));
  // Beside the whole tensors, a row of each: `row` of `parameter`.
  const auto judged = [&](const std::string& parameter, std::int64_t row, std::size_t columns) {
    folder.restore();
    edit_safetensors(folder / "golden.safetensors", [&](Json& header, std::string& data) {
      const auto add = [&](const std::string& name, const char* dtype, const Json& shape,
                           const std::string& bytes) {
        header[name] = {
            {"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
        data += bytes;
      };
      add("rows." + parameter, "I64", {1}, std::string(reinterpret_cast<const char*>(&row), sizeof row));
      for (const char* kind : {"grad_rows.", "adamw1_rows."})
        add(kind + parameter, "F32", {1, columns}, std::string(columns * sizeof(float), '\0'));
    });
    edit_json(folder / "golden.json", [&](Json& json) {
      for (const char* kind : {"grad_rows.", "adamw1_rows."})
        json["tolerances"][kind + parameter]["max_abs"] = 0.0;
    });
    return folder.judge();
  };
  const Model model = Model::load(folder.path());
  const auto columns = static_cast<std::size_t>(model.config().n_embd);
  for (const std::int64_t row : {std::int64_t{-1}, model.config().vocab_size, std::int64_t{300'000'000}}) {
    const Verdict verdict = judged("wte.weight", row, columns);
    EXPECT_EQ(verdict.exit_status, 2);
    EXPECT_THAT(verdict.err,
                HasSubstr(concat((folder / "golden.safetensors").string(), ": rows.wte.weight holds ", row,
                                 ", expected rows from 0 to ", model.config().vocab_size - 1)));
  }
  const Verdict last = judged("wte.weight", model.config().vocab_size - 1, columns);
  EXPECT_EQ(last.exit_status, 1);
  EXPECT_EQ(last.line("adamw1_rows.wte.weight").status, "FAIL");  // it is not zeros
  const Verdict bias = judged("ln_f.bias", 0, columns);
  EXPECT_EQ(bias.exit_status, 2);
  EXPECT_THAT(bias.err, HasSubstr("golden.safetensors: rows.ln_f.bias is given for shape ["));
}

TEST(GoldenCheckInput, FailsOnAStepThatIsNotInItsPlace) {
  FolderCopy folder(committed("training/train_parity"));
  Settings settings;
  settings.corpus = committed("training/corpus.txt");
  settings.train_steps = 1;
  edit_json(folder / "losses.json", [](Json& json) { json["steps"][3]["step"] = 7; });
  expect_only(folder.judge(settings), "steps[3].step");
}

}  // namespace
}  // namespace gpt::golden
