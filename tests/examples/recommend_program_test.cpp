// gpt-recommend as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::recommend_program {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

class RecommendProgram : public testing::Test {
 protected:
  RecommendProgram() {
    write_file(dir_ / "items.txt", "\xEF\xBB\xBFSword\nCrown\r\n\nRing\nCup\n");
    write_file(dir_ / "seen.jsonl",
               "{\"text\": \"Sword; Cup;\"}\n{\"text\": \"Ring; Cup;\"}\n{\"text\": \"Cup; Ring;\"}\n");
    write_file(dir_ / "test.jsonl", "{\"text\": \"Sword; Cup;\"}\n\n{\"text\": \"Cup; Sword; Crown\"}\n");
  }
  std::vector<std::string> command(std::vector<std::string> more) {
    more.insert(more.begin(), {GPT_RECOMMEND, "--model", kDemo, "--items", dir_ / "items.txt"});
    return more;
  }
  TempDir dir_;
};

TEST_F(RecommendProgram, RanksWhatSomebodyHasNotHadByItsLikelihood) {
  const ProcessResult result =
      Process(command({"--history", "Sword; Crown;", "--top", "9", "--json"})).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  const Json list = parse_json(result.out).at("recommended");
  ASSERT_EQ(list.size(), 2u);
  const Model model = Model::load(kDemo);
  const ChoiceQuestion question{"Sword; Crown;", {"Ring;", "Cup;"}, 0};
  const ChoiceRanking expected = rank_choices(model.network(), model.tokenizer(), {&question, 1}).front();
  const double ring = expected.scores[0].log_prob, cup = expected.scores[1].log_prob;
  EXPECT_EQ(list[0].at("item"), ring >= cup ? "Ring" : "Cup");
  EXPECT_NEAR(list[0].at("log_prob").get<double>(), std::max(ring, cup), 1e-9);
  EXPECT_NEAR(list[0].at("probability").get<double>(), 1 / (1 + std::exp(-std::abs(ring - cup))), 1e-6);

  const ProcessResult text = Process(command({"--history", "", "--top", "3"})).wait();
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(std::ranges::count(text.out, '\n'), 3);
}

TEST_F(RecommendProgram, SaysThatAHistoryIsCut) {
  std::string history;
  for (std::int64_t i = 0; i < Model::load(kDemo).config().n_positions; ++i) history += "Sword; ";
  const ProcessResult cut = Process(command({"--history", history})).wait();
  EXPECT_EQ(cut.status, 0) << cut.err;
  EXPECT_THAT(cut.err, HasSubstr("warning: [--history] is longer than the network's context"));
  EXPECT_EQ(Process(command({"--history", "Sword; "})).wait().err, "");
  write_file(dir_ / "long.jsonl", "{\"text\": \"" + history + "Cup;\"}\n{\"text\": \"Ring; Cup;\"}\n");
  EXPECT_THAT(Process(command({"--file", dir_ / "long.jsonl"})).wait().err,
              HasSubstr("long.jsonl] 1 of 2 histories are longer than the network's context"));
}

// Popularity is Cup 3, Ring 2, Sword 1, Crown 0: the hidden Cup is first of what is left, Crown second of Crown and Ring.
TEST_F(RecommendProgram, MeasuresTheHiddenThingBesidePopularity) {
  const std::vector<std::string> measuring{
      "--file", dir_ / "test.jsonl", "--popularity-file", dir_ / "seen.jsonl", "--k", "1,2"};
  std::vector<std::string> json = measuring;
  json.push_back("--json");
  const ProcessResult result = Process(command(json)).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("histories"), 2);
  EXPECT_EQ(object.at("items"), 4);
  const Json& popularity = object.at("popularity");
  EXPECT_EQ(popularity.at("hit_rate@1"), 0.5);
  EXPECT_EQ(popularity.at("hit_rate@2"), 1.0);
  EXPECT_NEAR(popularity.at("ndcg@2").get<double>(), (1 + std::log(2) / std::log(3)) / 2, 1e-12);
  EXPECT_EQ(popularity.at("mrr"), 0.75);
  EXPECT_EQ(object.at("hit_rate@2").get<double>() >= object.at("hit_rate@1").get<double>(), true);
  EXPECT_EQ(object.at("ndcg@1"), object.at("hit_rate@1"));
  const ProcessResult text = Process(command(measuring)).wait();
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.err, HasSubstr("popularity"));
  EXPECT_THAT(text.err, HasSubstr("histories ranked: 2 of 2"));
}

TEST_F(RecommendProgram, SaysWhatIsWrong) {
  expect_failure(2, command({}), "neither --history nor --file");
  expect_failure(2, command({"--history", "a", "--file", "b"}), "both given");
  expect_failure(2, command({"--history", "a", "--popularity-file", "b"}), "--popularity-file is for --file");
  expect_failure(2, command({"--history", "a", "--separator", " "}), "--separator is blank");
  expect_failure(2, command({"--file", "b", "--k", "0"}), "--k");
  expect_failure(2, command({"--history", "a", "--k", "1"}), "--k is for --file");
  expect_failure(2, command({"--file", "b", "--top", "1"}), "--top is for --history");
  expect_failure(1, command({"--history", "Sword; Crown; Ring;"}), "leaves 1 of 4");
  write_file(dir_ / "bad.jsonl", "{\"text\": \"Sword; Cup;\"}\n{\"texts\": 1}\n");
  expect_failure(1, command({"--file", dir_ / "bad.jsonl"}), "bad.jsonl:2]");
  write_file(dir_ / "short.jsonl", "{\"text\": \"Sword;\"}\n");
  expect_failure(1, command({"--file", dir_ / "short.jsonl"}), "has 1 things");
  write_file(dir_ / "unknown.jsonl", "{\"text\": \"Sword; Spoon;\"}\n");
  expect_failure(1, command({"--file", dir_ / "unknown.jsonl"}), "ends with \"Spoon\"");
  write_file(dir_ / "items.txt", "Sword\nCrown\nSword\n");
  expect_failure(1, command({"--history", "Crown;"}), "stands there twice");
  write_file(dir_ / "items.txt", "Sword; sharp\nCrown\n");
  expect_failure(1, command({"--history", "Crown;"}), "has the separator");
}

}  // namespace
}  // namespace gpt::test::recommend_program
