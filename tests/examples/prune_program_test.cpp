// gpt-prune as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::prune_program {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> prune_command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {GPT_PRUNE, "--model", kDemo});
  return arguments;
}

class PruneProgram : public testing::Test {
 protected:
  PruneProgram() {
    std::string text;
    for (int i = 0; i < 40; ++i)
      text += concat("FIRST CITIZEN:\nBefore we proceed any further, hear me speak, number ", i, ".\n\n");
    write_file(dir_ / "text.txt", text);
  }
  Json json_of(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--output-dir", dir_ / "out", "--json"});
    const ProcessResult result = Process(prune_command(std::move(arguments))).wait();
    EXPECT_EQ(result.status, 0) << result.err;
    return parse_json(result.out);
  }
  TempDir dir_;
};

TEST_F(PruneProgram, WritesACheckpointWithZeros) {
  const Json report = json_of({"--sparsity", "0.5", "--method", "wanda", "--calibration-file",
                               dir_ / "text.txt", "--evaluate-file", dir_ / "text.txt"});
  EXPECT_EQ(report.at("sparsity"), 0.5);
  EXPECT_NE(report.at("perplexity_after"), report.at("perplexity_before"));
  EXPECT_GT(report.at("perplexity_after"), 1.0);
  std::int64_t zeros = 0, weights = 0;
  const Model model = Model::load(dir_ / "out");
  for (const PrunedMatrix& m : count_zeros(model.network())) {
    zeros += m.zeros;
    weights += m.weights;
  }
  EXPECT_EQ(2 * zeros, weights);
  EXPECT_TRUE(model.has_tokenizer());
}

TEST_F(PruneProgram, LeavesOutTheLayersThatChangeLeast) {
  const Json report =
      json_of({"--drop-layers", "1", "--pattern", "2:4", "--calibration-file", dir_ / "text.txt"});
  const std::vector<double> importance = report.at("layer_importance");
  const std::vector<std::size_t> dropped = report.at("dropped_layers");
  ASSERT_EQ(dropped.size(), 1u);
  for (const double each : importance) EXPECT_GE(each, importance.at(dropped[0]));
  const Model model = Model::load(dir_ / "out");
  EXPECT_EQ(model.config().n_layer, std::ssize(importance) - 1);
  EXPECT_EQ(report.at("n_layer"), model.config().n_layer);
  EXPECT_EQ(report.at("sparsity"), 0.5);
  EXPECT_TRUE(report.at("perplexity_after").is_null());
}

TEST_F(PruneProgram, LeavesOutTheLayersThatAreNamed) {
  const ProcessResult result =
      Process(prune_command({"--layers", "1,2", "--output-dir", dir_ / "out"})).wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr(" layers; 0.00 % of the weights in their matrices are zero"));
  EXPECT_EQ(Model::load(dir_ / "out").config().n_layer, Model::load(kDemo).config().n_layer - 2);
}

TEST_F(PruneProgram, LeavesOutTheHeadsThatMatterLeast) {
  const Json report = json_of({"--drop-heads", "5", "--calibration-file", dir_ / "text.txt"});
  const Model whole = Model::load(kDemo), model = Model::load(dir_ / "out");
  const auto all = static_cast<std::size_t>(whole.config().n_layer * whole.config().n_head);
  ASSERT_EQ(report.at("head_importance").size(), all);
  ASSERT_EQ(report.at("dropped_heads").size(), 5u);
  std::size_t left = 0;
  for (std::int64_t layer = 0; layer < model.config().n_layer; ++layer)
    left += static_cast<std::size_t>(model.config().heads_of(layer));
  EXPECT_EQ(left, all - 5);
  // None that stays matters less, unless it is the last of its layer.
  double most = 0;
  for (const Json& h : report.at("head_importance"))
    if (const Json id = {h.at("layer"), h.at("head")};
        std::ranges::find(report.at("dropped_heads"), id) != report.at("dropped_heads").end())
      most = std::max(most, h.at("importance").get<double>());
  for (const Json& h : report.at("head_importance"))
    if (const Json id = {h.at("layer"), h.at("head")};
        std::ranges::find(report.at("dropped_heads"), id) == report.at("dropped_heads").end()) {
      EXPECT_TRUE(h.at("importance") >= most || model.config().heads_of(h.at("layer")) == 1) << h;
    }
}

TEST_F(PruneProgram, LeavesOutTheHeadsThatAreNamed) {
  const ProcessResult result =
      Process(prune_command({"--heads", "0:1,2:0", "--output-dir", dir_ / "out"})).wait();
  EXPECT_EQ(result.status, 0) << result.err;
  const auto pruned = Model::load(dir_ / "out").config().pruned_heads;
  EXPECT_THAT(pruned, ::testing::ElementsAreArray({::testing::Pair(0, ::testing::ElementsAreArray({1})),
                                                   ::testing::Pair(2, ::testing::ElementsAreArray({0}))}));
}

TEST_F(PruneProgram, DropsNothingByNumbersThatAreNone) {
  Model model = Model::load(kDemo);
  model.network().visit_matrices([](const std::string& name, ops::Weight& weight) {
    if (name != "h.1.mlp.c_fc.weight") return;
    weight.values = weight.values.to(DType::f32).clone();
    weight.values.data<float>()[2] = NAN;
  });
  model.save(dir_ / "nan");
  for (const char* option : {"--drop-heads", "--drop-layers"})
    expect_failure(1,
                   {GPT_PRUNE, "--model", dir_ / "nan", "--output-dir", dir_ / "out", option, "1",
                    "--calibration-file", dir_ / "text.txt"},
                   "h.1.mlp.c_fc.weight: element [0, 2] is nan");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

// It would be loaded with a model that it is not of.
TEST_F(PruneProgram, WritesOverNoOtherModel) {
  for (const auto& [directory, file] :
       {std::pair("bare", "config.json"), {"bare", "model.safetensors"}, {"out", "vocab.json"}}) {
    std::filesystem::create_directory(dir_ / directory);
    std::filesystem::copy_file(std::filesystem::path(kDemo) / file, dir_ / directory / file);
  }
  expect_failure(1, {GPT_PRUNE, "--model", dir_ / "bare", "--output-dir", dir_ / "out", "--layers", "1"},
                 "out] holds vocab.json: choose another --output-dir");
  EXPECT_TRUE(has_tokenizer(dir_ / "out"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out/config.json"));
  const ProcessResult in_place =
      Process({GPT_PRUNE, "--model", dir_ / "bare", "--output-dir", dir_ / "bare", "--layers", "1"}).wait();
  EXPECT_EQ(in_place.status, 0) << in_place.err;
}

TEST_F(PruneProgram, RefusesAPatternThatNoGroupOfInputsHas) {
  expect_failure(1, prune_command({"--pattern", "1:1000", "--output-dir", dir_ / "out"}),
                 "error: --pattern is 1:1000, but no matrix has more than 768 inputs\n");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

TEST_F(PruneProgram, RefusesAClassifier) {
  Classifier(Model::load(kDemo), {"good", "bad"}, ProblemType::kSingleLabel, 3).save(dir_ / "classifier");
  expect_failure(1,
                 {GPT_PRUNE, "--model", dir_ / "classifier", "--output-dir", dir_ / "out", "--layers", "1"},
                 "classifier] is a classifier's, whose head (score.weight) would be lost");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

TEST_F(PruneProgram, RefusesAWrongCommandLine) {
  const auto refused = [&](std::vector<std::string> arguments, const std::string& message, int status = 2) {
    arguments.insert(arguments.end(), {"--output-dir", dir_ / "out"});
    expect_failure(status, prune_command(std::move(arguments)), message);
  };
  refused({}, "nothing is to be pruned");
  refused({"--sparsity", "1.5"}, "--sparsity is 1.5, expected 0 to 1");
  refused({"--sparsity", "0.5", "--pattern", "2:4"}, "--sparsity and --pattern");
  refused({"--pattern", "4:2"}, "is not N:M");
  refused({"--pattern", "2"}, "is not N:M");
  refused({"--sparsity", "0.5", "--method", "sparsegpt"}, "none of magnitude, wanda");
  refused({"--layers", "1", "--method", "wanda"}, "--method needs");
  refused({"--layers", "1", "--drop-layers", "1"}, "both given");
  refused({"--drop-layers", "1"}, "error: --drop-layers needs --calibration-file");
  refused({"--sparsity", "0.5", "--method", "wanda"}, "error: --method wanda needs --calibration-file");
  refused({"--sparsity", "0.5", "--calibration-file", dir_ / "text.txt"}, "--calibration-file is for");
  refused({"--heads", "0:1", "--drop-heads", "1"}, "both given");
  refused({"--heads", "3"}, "no list of LAYER:HEAD");
  refused({"--heads", "1:2,"}, "no list of LAYER:HEAD");
  refused({"--heads", "0:99"}, "[--heads] head 99 of layer 0", 1);
  refused({"--heads", "0:1,0:1"}, "[--heads] head 1 of layer 0 is given twice", 1);
  refused({"--drop-heads", "1"}, "error: --drop-heads needs --calibration-file");
  refused({"--drop-heads", "999", "--calibration-file", dir_ / "text.txt"}, "one in each layer", 1);
  refused({"--layers", "99"}, "[--layers] layer 99 is outside", 1);
  refused({"--drop-layers", "99", "--calibration-file", dir_ / "text.txt"}, "of which one must stay", 1);
  write_file(dir_ / "empty.txt", "");
  refused({"--sparsity", "0.5", "--evaluate-file", dir_ / "empty.txt"}, "has 0 tokens", 1);
}

}  // namespace
}  // namespace gpt::test::prune_program
