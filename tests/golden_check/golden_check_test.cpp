// Spoils expected values one at a time, and sees the judge find each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "golden_edit.h"
#include "support/json.h"

namespace gpt::golden {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

void expect_only_failure(const Verdict& verdict, const std::string& quantity) {
  EXPECT_EQ(verdict.exit_status, 1) << quantity;
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({quantity})) << verdict.err;
  EXPECT_THAT(verdict.summary, HasSubstr(" 1 failed,"));
  EXPECT_THAT(verdict.err, HasSubstr(quantity));
}

void expect_pass(const Verdict& verdict) {
  EXPECT_EQ(verdict.exit_status, 0) << verdict.err;
  EXPECT_THAT(verdict.with_status("FAIL"), IsEmpty());
}

void expect_unreadable(const Verdict& verdict, const std::string& folder, const std::string& what) {
  EXPECT_EQ(verdict.exit_status, 2) << what;
  EXPECT_THAT(verdict.err, HasSubstr(folder));
  EXPECT_THAT(verdict.err, HasSubstr(what));
}

// Moves an element by `tolerances` times what the judge allows it.
void move_element(const FolderCopy& folder, const Verdict& untouched, const std::string& tensor,
                  double tolerances) {
  const double step = tolerances * std::stod(untouched.line(tensor).tolerance);
  edit_element<float>(folder / "golden.safetensors", tensor, 0,
                      [&](float x) { return static_cast<float>(static_cast<double>(x) + step); });
}

TEST(GoldenCheckModel, FailsOnTheOneTensorThatIsBeyondItsTolerance) {
  for (const auto& [name, tensors] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"tiny",
            {"logits", "hidden.0", "hidden.1", "hidden.2", "hidden_final", "token_logprobs", "seq_logprob",
             "loss", "pad_left_logits", "pad_right_logits", "pad_left_loss", "pad_right_loss"}},
           {"wide",
            {"logits_sel", "logits_lse", "logits_last", "pad_left_logits_sel", "pad_right_logits_sel"}},
           {"tiny_seqcls",
            {"right_logits", "left_logits", "right_loss", "left_loss_multi", "right_loss_regression",
             "left_grad.h.1.attn.c_attn.weight", "right_grad.score.weight", "right_grad_multi.ln_f.weight",
             "left_grad_regression.wpe.weight"}},
       }) {
    FolderCopy folder(committed("models") / name);
    const Verdict untouched = folder.judge();
    expect_pass(untouched);
    for (const std::string& tensor : tensors) {
      move_element(folder, untouched, tensor, 2);
      expect_only_failure(folder.judge(), tensor);
      folder.restore();
    }
  }
}

TEST(GoldenCheckModel, AllowsWhatIsWithinTheTolerance) {
  FolderCopy folder(committed("models/tiny"));
  const Verdict untouched = folder.judge();
  for (const char* tensor : {"logits", "hidden.1", "token_logprobs", "loss", "pad_left_logits"})
    move_element(folder, untouched, tensor, 0.5);
  expect_pass(folder.judge());
}

TEST(GoldenCheckModel, NeverAcceptsWhatIsNotFinite) {
  FolderCopy folder(committed("models/tiny"));
  for (const float x : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    edit_element<float>(folder / "golden.safetensors", "hidden.1", 5, [x](float) { return x; });
    expect_only_failure(folder.judge(), "hidden.1");
  }
}

TEST(GoldenCheckModel, DoesNotComparePadding) {
  FolderCopy folder(committed("models/tiny"));
  const std::size_t vocab_size = 97;  // row 0 of pad_left_logits has no padding, row 1 of 12 begins with it
  edit_element<float>(folder / "golden.safetensors", "pad_left_logits", 12 * vocab_size,
                      [](float) { return 7.0f; });
  expect_pass(folder.judge());
}

TEST(GoldenCheckModel, FailsOnAWrongTokenId) {
  const auto other = [](std::int64_t id) { return id == 0 ? 1 : id - 1; };
  FolderCopy wide(committed("models/wide"));
  edit_element<std::int64_t>(wide / "golden.safetensors", "logits_argmax", 3, other);
  expect_only_failure(wide.judge(), "logits_argmax");

  FolderCopy tiny(committed("models/tiny"));
  edit_element<std::int64_t>(tiny / "golden.safetensors", "greedy_generated", 3, other);
  expect_only_failure(tiny.judge(), "greedy_generated");
  tiny.restore();
  edit_json(tiny / "golden.json", [&](Json& json) {
    Json& id = json["greedy"][2]["generated"][5];
    id = other(id.get<std::int64_t>());
  });
  expect_only_failure(tiny.judge(), "greedy[2].generated");
  tiny.restore();
  edit_json(tiny / "golden.json", [](Json& json) { json["greedy"][2]["generated"].push_back(5); });
  expect_only_failure(tiny.judge(), "greedy[2].generated");
}

TEST(GoldenCheckModel, FailsOnANumberInGoldenJson) {
  FolderCopy folder(committed("models/tiny"));
  for (const char* pointer : {"/loss", "/greedy/0/min_top1_margin"}) {
    edit_json(folder / "golden.json", [&](Json& json) {
      Json& value = json[Json::json_pointer(pointer)];
      value = value.get<double>() + 0.01;
    });
    expect_only_failure(folder.judge(),
                        std::string(pointer) == "/loss" ? "loss" : "greedy[0].min_top1_margin");
    folder.restore();
  }
}

TEST(GoldenCheckModel, FailsOnANumberOfAClassifier) {
  FolderCopy folder(committed("models/tiny_seqcls"));
  for (const char* loss : {"right_loss", "left_loss_multi"}) {
    edit_json(folder / "golden.json", [&](Json& json) { json[loss] = json[loss].get<double>() + 0.001; });
    expect_only_failure(folder.judge(), loss);
    folder.restore();
  }
}

TEST(GoldenCheckModel, LeavesNothingOfAClassifierOut) {
  EXPECT_THAT(judge_paths({committed("models/tiny_seqcls")}).with_status("skip"), IsEmpty());
}

TEST(GoldenCheckModel, FailsOnABeamOfAnotherTokenLengthOrScore) {
  FolderCopy folder(committed("models/tiny"));
  const auto fails = [&](const char* quantity, const std::function<void(Json & beam)>& spoil) {
    edit_json(folder / "golden.json", [&](Json& json) { spoil(json["beam"][2]); });
    expect_only_failure(folder.judge(), quantity);
    folder.restore();
  };
  fails("beam[2].sequences", [](Json& beam) {
    Json& id = beam["sequences"][3][0];
    id = id.get<int>() == 0 ? 1 : 0;
  });
  fails("beam[2].sequences", [](Json& beam) { beam["sequences"][1].push_back(3); });
  fails("beam[2].scores", [](Json& beam) { beam["scores"][3] = beam["scores"][3].get<double>() + 2e-4; });
}

TEST(GoldenCheckModel, MakesAFailureOfAnExceptionInACheck) {
  FolderCopy folder(committed("models/tiny"));
  edit_element<std::int64_t>(folder / "golden.safetensors", "pad_left_input_ids", 0,
                             [](std::int64_t) { return 97; });
  const Verdict verdict = folder.judge();
  EXPECT_EQ(verdict.exit_status, 1);
  EXPECT_THAT(verdict.with_status("FAIL"), ElementsAreArray({"pad_left_logits", "pad_left_loss"}));
  EXPECT_EQ(verdict.line("pad_left_logits").error, "exception");
  EXPECT_THAT(verdict.err, HasSubstr("97"));
}

TEST(GoldenCheckModel, ListsEveryEntry) {
  const Verdict verdict = judge_paths({committed("models/tiny")});
  expect_pass(verdict);
  std::multiset<std::string> listed;
  for (const Line& line : verdict.lines)
    if (line.folder == committed("models/tiny").generic_string()) listed.insert(line.quantity);
  FolderCopy folder(committed("models/tiny"));
  edit_safetensors(folder / "golden.safetensors", [&](Json& header, std::string&) {
    for (const auto& [name, info] : header.items()) {
      const bool also_in_json = name == "loss";
      EXPECT_EQ(listed.count(name), also_in_json ? 2u : 1u) << name;
    }
  });
  EXPECT_EQ(verdict.line("input_ids").status, "input");
  EXPECT_EQ(verdict.line("greedy[0].prompt").status, "input");
  EXPECT_EQ(verdict.line("tolerances").status, "input");
  EXPECT_EQ(verdict.line("grad.wte.weight").status, "ok");
  EXPECT_EQ(verdict.line("beam[2].sequences").status, "ok");
  EXPECT_EQ(verdict.line("merged.h.0.attn.c_attn.weight").folder,
            committed("models/tiny/lora").generic_string());
}

TEST(GoldenCheckModel, RefusesAFolderThatIsNotOfItsForm) {
  FolderCopy folder(committed("models/wide"));
  const auto refuses = [&](const std::string& file, const std::string& what, const auto& spoil) {
    spoil(folder / file);
    expect_unreadable(folder.judge(), folder.path().generic_string(), what);
    folder.restore();
  };
  const auto truncate = [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) - 4); };
  const auto remove = [](const fs::path& file) { fs::remove(file); };
  const auto malform = [](const fs::path& file) { test::write_file(file, "{\"a\": NaN}"); };
  const auto rename = [](const std::string& name) {
    return [name](const fs::path& file) {
      edit_safetensors(file, [&](Json& header, std::string&) {
        header["other"] = header.at(name);
        header.erase(name);
      });
    };
  };
  const auto change = [](const std::string& name, const std::string& field, const Json& value) {
    return [=](const fs::path& file) {
      edit_safetensors(file, [&](Json& header, std::string&) { header[name][field] = value; });
    };
  };
  refuses("model.safetensors", "model.safetensors", truncate);
  refuses("model.safetensors", "model.safetensors", remove);
  refuses("config.json", "config.json", malform);
  refuses("config.json", "--model", remove);
  refuses("golden.safetensors", "golden.safetensors", truncate);
  refuses("golden.safetensors", "golden.safetensors", remove);
  refuses("golden.json", "golden.json", malform);
  refuses("golden.json", "golden.json", remove);
  refuses("golden.safetensors", "hidden.1", rename("hidden.1"));
  refuses("golden.safetensors", "logits_argmax", rename("logits_argmax"));
  refuses("golden.safetensors", "input_ids", rename("input_ids"));
  refuses("golden.safetensors", "hidden.1", change("hidden.1", "shape", {2, 12, 9}));
  refuses("golden.safetensors", "hidden.1", change("hidden.1", "shape", {216}));
  refuses("golden.safetensors", "logits_lse", change("logits_lse", "dtype", "I32"));
  refuses("golden.safetensors", "loss", change("loss", "shape", Json::array()));
  refuses("golden.json", "greedy", [](const fs::path& file) {
    edit_json(file, [](Json& json) { json["greedy"][0].erase("prompt"); });
  });
}

TEST(GoldenCheckModel, RefusesAnUnreadableAdapter) {
  FolderCopy folder(committed("models/tiny"));
  fs::remove(folder / "golden_lora.json");
  expect_unreadable(folder.judge(), folder.path().generic_string(), "golden_lora.json");
}

TEST(GoldenCheckSampling, FailsOnTheOneCaseThatIsWrong) {
  FolderCopy folder(committed("sampling"));
  const Verdict untouched = folder.judge();
  expect_pass(untouched);
  EXPECT_GT(untouched.with_status("ok").size(), 500u);
  EXPECT_EQ(untouched.with_status("skip").size(), 0u);
  ASSERT_EQ(untouched.line("sampling.jsonl[2].probs").status, "ok");

  edit_row(folder / "sampling.jsonl", 2,
           [](Json& row) { row["probs"][3] = row["probs"][3].get<double>() + 2e-4; });
  expect_only_failure(folder.judge(), "sampling.jsonl[2].probs");
  folder.restore();
  edit_row(folder / "sampling.jsonl", 2, [](Json& row) { row["kept"].erase(0); });
  expect_only_failure(folder.judge(), "sampling.jsonl[2].kept");
  folder.restore();
  edit_row(folder / "sampling.jsonl", 2,
           [](Json& row) { row["probs"][3] = row["probs"][3].get<double>() + 1e-12; });
  expect_pass(folder.judge());
}

TEST(GoldenCheckSampling, SkipsACaseWithAParameterThatItDoesNotKnow) {
  FolderCopy folder(committed("sampling"));
  edit_row(folder / "sampling.jsonl", 2, [](Json& row) { row["params"]["top_x"] = 1; });
  EXPECT_EQ(folder.judge().line("sampling.jsonl[2].probs").status, "skip");
}

TEST(GoldenCheckSampling, TakesTiesAtTheCutInAnyOrder) {
  FolderCopy folder(committed("sampling"));
  std::istringstream rows(test::read_file(folder / "sampling.jsonl"));
  std::size_t index = 0;
  for (std::string text; std::getline(rows, text); ++index) {
    const Json row = test::parse_json(text);
    if (row["ties"].get<bool>() && row["params"].size() == 1) break;
  }
  const std::string path = "sampling.jsonl[" + std::to_string(index) + "]";
  ASSERT_EQ(folder.judge().line(path + ".kept").status, "ok");
  edit_row(folder / "sampling.jsonl", index, [](Json& row) {
    std::reverse(row["probs"].begin(), row["probs"].end());
    for (Json& id : row["kept"]) id = row["probs"].size() - 1 - id.get<std::size_t>();
  });
  expect_pass(folder.judge());
  edit_row(folder / "sampling.jsonl", index, [](Json& row) { row["kept"].push_back(0); });
  expect_only_failure(folder.judge(), path + ".kept");
}

TEST(GoldenCheckSampling, RefusesMalformedRows) {
  FolderCopy folder(committed("sampling"));
  edit_row(folder / "sampling.jsonl", 4, [](Json& row) { row.erase("history"); });
  expect_unreadable(folder.judge(), folder.path().generic_string(), "history");
  folder.restore();
  edit_row(folder / "sampling.jsonl", 4, [](Json& row) { row["params"]["logit_bias"] = {{"one", 1.0}}; });
  expect_unreadable(folder.judge(), folder.path().generic_string(), "logit_bias");
  test::write_file(folder / "sampling.jsonl", "{\"name\":\n");
  expect_unreadable(folder.judge(), folder.path().generic_string(), "sampling.jsonl:1");
  test::write_file(folder / "sampling.jsonl", "");
  expect_unreadable(folder.judge(), folder.path().generic_string(), "no rows");
}

TEST(GoldenCheckPaths, NamesWhatItDoesNotRecognise) {
  const test::TempDir empty;
  expect_unreadable(judge_paths({empty.path()}), empty.path().string(), "no folder of expected values");
  expect_unreadable(judge_paths({empty / "missing"}), "missing", "missing");
  expect_unreadable(judge_paths({committed("sampling"), empty.path()}), empty.path().string(), "no folder");
  fs::copy(committed("models/tiny/lora"), empty / "lora");
  expect_unreadable(judge_paths({empty.path()}), empty.path().string(), "no folder of expected values");
}

TEST(GoldenCheckPaths, SearchesParentsInTheOrderOfNames) {
  const test::TempDir parent;
  for (const char* name : {"b/tiny", "b/ctx1", "a/x/t1"}) {
    fs::create_directories((parent / name).parent_path());
    fs::copy(committed("models") / fs::path(name).filename(), parent / name, fs::copy_options::recursive);
  }
  const Verdict verdict = judge_paths({parent.path()});
  expect_pass(verdict);
  std::vector<std::string> folders;
  for (const Line& line : verdict.lines)
    if (folders.empty() || folders.back() != line.folder) folders.push_back(line.folder);
  const std::string root = parent.path().generic_string();
  EXPECT_THAT(folders, ElementsAreArray({root + "/a/x/t1", root + "/b/ctx1", root + "/b/tiny",
                                         root + "/b/tiny/lora", root + "/b/tiny/prompt_tuning",
                                         root + "/b/tiny/dora", root + "/b/tiny/adalora",
                                         root + "/b/tiny/ia3", root + "/b/tiny/prefix_tuning"}));
  EXPECT_EQ(judge_paths({parent.path()}).out, verdict.out);
}

TEST(GoldenCheckPaths, GoesOnAfterAnUnreadableFolder) {
  const test::TempDir parent;
  fs::copy(committed("models/ctx1"), parent / "a");
  fs::copy(committed("models/ctx1"), parent / "b");
  fs::remove(parent / "a/model.safetensors");
  const Verdict verdict = judge_paths({parent.path()});
  EXPECT_EQ(verdict.exit_status, 2);
  EXPECT_EQ(verdict.line("logits").folder, (parent / "b").generic_string());
  EXPECT_THAT(verdict.summary,
              StartsWith(std::to_string(verdict.with_status("ok").size()) + " passed, 0 failed, "));
}

}  // namespace
}  // namespace gpt::golden
