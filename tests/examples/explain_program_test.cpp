// gpt-explain as its user meets it: the page, the numbers, exit status and messages.
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

namespace gpt::test::explain_program {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {GPT_EXPLAIN, "--model", kDemo});
  return arguments;
}

TEST(ExplainProgram, ShowsWhyOnOnePage) {
  const TempDir dir;
  const ProcessResult result =
      Process(command({"--prompt", "ROMEO:\nI <love> thee", "--output", dir / "page.html", "--steps", "4"}))
          .wait();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("page.html: p(\""));
  const std::string page = read_file(dir / "page.html");
  EXPECT_THAT(page, AllOf(HasSubstr("What it is due to"), HasSubstr("What each layer would say"),
                          HasSubstr("Where the attention goes"), HasSubstr("layer 6"), HasSubstr("&lt;")));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<love>")), Not(HasSubstr("<script")), Not(HasSubstr("http"))));
}

TEST(ExplainProgram, PrintsTheNumbers) {
  const ProcessResult result =
      Process(command({"--prompt", "ROMEO:", "--json", "--steps", "64", "--top", "2"})).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  const Model model = Model::load(kDemo);
  const auto ids = model.tokenizer().encode_prompt("ROMEO:");
  ASSERT_EQ(object.at("tokens").size(), ids.size());
  double sum = 0, rollout = 0;
  for (const Json& token : object.at("tokens")) {
    sum += token.at("score").get<double>();
    rollout += token.at("rollout").get<double>();
  }
  EXPECT_NEAR(rollout, 1, 1e-6);
  const double difference = object.at("log_prob").get<double>() - object.at("baseline").get<double>();
  EXPECT_NEAR(sum, difference, 0.1 * std::abs(difference));
  const Json& last = object.at("logit_lens").back().back();
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[0].at("id"), object.at("target").at("id"));
  EXPECT_NEAR(last[0].at("log_prob").get<double>(), object.at("log_prob").get<double>(), 1e-6);
  EXPECT_EQ(object.at("logit_lens").size(), static_cast<std::size_t>(model.config().n_layer) + 1);
}

TEST(ExplainProgram, ExplainsTheTokenThatIsAskedFor) {
  const ProcessResult result = Process(command({"--prompt", "ROMEO:", "--json", "--target", " the",
                                                "--method", "gradient-times-input"}))
                                   .wait();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(parse_json(result.out).at("target").at("text"), " the");
  EXPECT_FALSE(parse_json(result.out).contains("baseline"));
}

TEST(ExplainProgram, ExplainsALabel) {
  const TempDir dir;
  Classifier classifier(Model::load(kDemo), {"good", "bad"}, ProblemType::kSingleLabel, 3);
  classifier.save(dir.path());
  write_file(dir / "classification.json", "{\"max_length\": 3}");
  std::vector<std::string> all{GPT_EXPLAIN,    "--model",  dir.path(),
                               "--classifier", "--prompt", "my gentle friend, sweet music",
                               "--json",       "--output", dir / "page.html"};
  const ProcessResult result = Process(all).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  const std::vector<TokenId> ids = classifier.encode("my gentle friend, sweet music", 3);
  const auto p = probabilities(ProblemType::kSingleLabel, classifier.logits({&ids, 1}).span<float>());
  const std::size_t best = p[1] > p[0] ? 1 : 0;
  EXPECT_EQ(object.at("target").at("text"), classifier.labels()[best]);
  EXPECT_NEAR(std::exp(object.at("log_prob").get<double>()), p[best], 1e-6);
  EXPECT_EQ(object.at("tokens").size(), 3u);
  EXPECT_FALSE(object.contains("logit_lens"));
  EXPECT_THAT(read_file(dir / "page.html"), AllOf(HasSubstr("Why &quot;" + classifier.labels()[best]),
                                                  Not(HasSubstr("What each layer would say"))));
  all.insert(all.end(), {"--target", classifier.labels()[1 - best]});
  EXPECT_EQ(parse_json(Process(all).wait().out).at("target").at("id"), 1 - best);
  all.back() = "ugly";
  expect_failure(1, all, "is no label, expected one of good, bad");
}

TEST(ExplainProgram, ExplainsAModelWhoseLayersHaveDifferentNumbersOfHeads) {
  const TempDir dir;
  Model model = Model::load(kDemo);
  const std::vector<HeadId> heads{{0, 0}, {2, 1}, {2, 3}};
  model.network() = without_heads(model.network(), heads);
  model.save(dir / "model");
  Classifier(std::move(model), {"good", "bad"}, ProblemType::kSingleLabel, 3).save(dir / "classifier");
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--model", dir / "model"},
                                             {"--model", dir / "model", "--method", "gradient-times-input"},
                                             {"--model", dir / "classifier", "--classifier"}}) {
    std::vector<std::string> all{GPT_EXPLAIN, "--prompt", "hi there",
                                 "--json",    "--output", dir / "page.html"};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = Process(all).wait();
    ASSERT_EQ(result.status, 0) << result.err;
    const Json object = parse_json(result.out);
    double rollout = 0;
    for (const Json& token : object.at("tokens")) rollout += token.at("rollout").get<double>();
    EXPECT_NEAR(rollout, 1, 1e-6);
    EXPECT_THAT(read_file(dir / "page.html"), HasSubstr("Where the attention goes"));
  }
}

/// An adapter of the demo model, one of whose numbers is NaN.
void save_broken_adapter(const std::filesystem::path& directory) {
  const Model model = Model::load(kDemo);
  BitFitAdapter adapter(model.network());
  adapter.visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name.find("h.1.") != name.npos && name.find("c_fc") != name.npos) tensor.data<float>()[3] = NAN;
  });
  adapter.save(directory);
}

TEST(ExplainProgram, RefusesNumbersThatAreNone) {
  const TempDir dir;
  save_broken_adapter(dir / "bad");
  for (const char* method : {"integrated-gradients", "gradient-times-input"}) {
    const auto all = command(
        {"--prompt", "a", "--output", dir / "page.html", "--adapter", dir / "bad", "--method", method});
    expect_failure(1, all, "[3] is nan");
    expect_failure(1, all, "h.1.mlp.c_fc");
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "page.html"));
}

TEST(ExplainProgram, RefusesMoreStepsThanThereAre) {
  expect_failure(1, command({"--prompt", "a", "--json", "--steps", "99999999999"}),
                 "error: --steps is 99999999999, expected 1 to 16777216");
}

TEST(ExplainProgram, SaysThatATextIsCut) {
  const TempDir dir;
  Classifier(Model::load(kDemo), {"good", "bad"}, ProblemType::kSingleLabel, 3).save(dir.path());
  write_file(dir / "classification.json", "{\"max_length\": 3}");
  const std::vector<std::string> all{GPT_EXPLAIN,    "--model", dir.path(),
                                     "--classifier", "--json",  "--prompt"};
  std::vector<std::string> cut = all, whole = all;
  cut.push_back("my gentle friend, sweet music");
  whole.push_back("a");
  EXPECT_THAT(Process(cut).wait().err, HasSubstr("warning: [--prompt] is longer than the 3 tokens"));
  EXPECT_EQ(Process(whole).wait().err, "");
}

TEST(ExplainProgram, NamesWhatIsWrong) {
  const TempDir dir;
  const Model model = Model::load(kDemo);
  PromptTuning(model.network(), {.num_virtual_tokens = 2}, 1).save(dir / "prompt");
  PrefixTuning(model.network(), {.num_virtual_tokens = 2}, 1).save(dir / "prefix");
  for (const char* adapter : {"prompt", "prefix"})
    expect_failure(
        1, command({"--prompt", "a", "--json", "--adapter", dir / adapter}),
        "[--adapter] begins with virtual tokens (prompt or prefix tuning), which cannot be explained");
  write_file(dir / "prompt.txt", "a");
  expect_failure(1, command({"--prompt-file", dir / "prompt.txt", "--output", dir / "prompt.txt"}),
                 "prompt.txt would be replaced, which is read");
  expect_failure(1,
                 command({"--prompt", "a", "--adapter", dir / "prefix", "--output",
                          dir / "prefix" / "adapter_config.json"}),
                 "adapter_config.json would be replaced, which is read");
  std::string text;
  for (std::int64_t i = 0; i < model.config().n_positions; ++i) text += "a b\n";
  const std::size_t size = model.tokenizer().encode_prompt(text).size();
  expect_failure(
      1, command({"--prompt", text, "--json"}),
      concat("[--prompt] has ", size, " tokens, and the network takes at most ", model.config().n_positions));
  write_file(dir / "text", text);
  expect_failure(1, command({"--prompt-file", dir / "text", "--json"}), "[--prompt-file] has ");
  expect_failure(2, command({"--prompt", "a", "--json", "--classifier", "--adapter", "x"}),
                 "not for --classifier");
  expect_failure(2, command({"--prompt", "a", "--output", "x", "--top", "2"}), "--top is for --json");
  expect_failure(2, command({"--prompt", "a", "--json", "--classifier", "--top", "2"}),
                 "not for --classifier");
  expect_failure(2, command({"--json"}), "neither --prompt nor --prompt-file");
  expect_failure(2, command({"--prompt", "a"}), "neither --output nor --json");
  expect_failure(2, command({"--prompt", "a", "--json", "--method", "lime"}), "none of integrated-gradients");
  expect_failure(2, command({"--prompt", "a", "--json", "--method", "gradient-times-input", "--steps", "3"}),
                 "--steps is for");
  expect_failure(1, command({"--prompt", "", "--json"}), "[--prompt] has no tokens");
  expect_failure(1, command({"--prompt", "a", "--json", "--target", "two tokens"}),
                 "expected one; the first is");
  expect_failure(1, command({"--prompt", "a", "--output", dir.path()}), dir.path().string());
}

}  // namespace
}  // namespace gpt::test::explain_program
