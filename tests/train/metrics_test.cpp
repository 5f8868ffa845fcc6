// The records of a run: what is written is what is read, also after a run that was killed.
#include "gpt/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test {
namespace {

using ::testing::ElementsAreArray;

TrainingLog training(std::int64_t step) {
  return {.step = step,
          .total_steps = 50,
          .epoch = 0.1 * static_cast<double>(step),
          .loss = 1.0 / 3,
          .grad_norm = 2.5,
          .learning_rate = 5e-5,
          .tokens_per_s = 1234.5};
}
EvaluationLog evaluation(std::int64_t step, double loss) {
  return {.step = step, .epoch = 0.5, .eval_loss = loss, .perplexity = std::exp(loss)};
}

std::vector<std::int64_t> steps(const auto& logs) {
  std::vector<std::int64_t> all;
  for (const auto& log : logs) all.push_back(log.step);
  return all;
}

TEST(MetricsFile, WritesOneObjectALine) {
  const TempDir dir;
  MetricsFile metrics(dir / "metrics.jsonl");
  metrics.add(training(10));
  metrics.add(
      {.step = 10, .epoch = 1, .eval_loss = 800, .perplexity = std::numeric_limits<double>::infinity()});
  const std::string text = read_file(dir / "metrics.jsonl");
  const std::size_t end = text.find('\n');
  EXPECT_EQ(parse_json(text.substr(0, end)), (Json{{"step", 10},
                                                   {"total_steps", 50},
                                                   {"epoch", 1.0},
                                                   {"loss", 1.0 / 3},
                                                   {"grad_norm", 2.5},
                                                   {"learning_rate", 5e-5},
                                                   {"tokens_per_s", 1234.5}}));
  EXPECT_EQ(parse_json(text.substr(end + 1)),
            (Json{{"step", 10}, {"epoch", 1.0}, {"eval_loss", 800.0}, {"perplexity", nullptr}}));
}

TEST(MetricsFile, ReadsWhatItWrote) {
  const TempDir dir;
  MetricsFile metrics(dir / "metrics.jsonl");
  metrics.add(training(10));
  metrics.add(evaluation(10, 3.5));
  metrics.add(evaluation(20, 3.75));
  metrics.add(evaluation(30, 3.25));
  const TrainingHistory history = MetricsFile::read(metrics.path());
  ASSERT_EQ(history.training.size(), 1u);
  const TrainingLog& log = history.training[0];
  EXPECT_EQ(log.step, 10);
  EXPECT_EQ(log.total_steps, 50);
  EXPECT_EQ(log.loss, 1.0 / 3);
  EXPECT_EQ(log.learning_rate, 5e-5);
  EXPECT_EQ(log.tokens_per_s, 1234.5);
  ASSERT_EQ(history.evaluations.size(), 3u);
  EXPECT_EQ(history.evaluations[2].eval_loss, 3.25);
  EXPECT_TRUE(history.evaluations[0].best);
  EXPECT_FALSE(history.evaluations[1].best);
  EXPECT_TRUE(history.evaluations[2].best);
}

TEST(MetricsFile, BeginsAnewWithTheFirstRecordAlone) {
  const TempDir dir;
  write_file(dir / "metrics.jsonl", "another run's\n");
  MetricsFile metrics(dir / "metrics.jsonl");
  EXPECT_EQ(read_file(metrics.path()), "another run's\n");
  metrics.add(training(1));
  EXPECT_THAT(steps(MetricsFile::read(metrics.path()).training), ElementsAreArray({1}));
}

TEST(MetricsFile, TakesBackWhatAKilledRunRecordedAfterItsCheckpoint) {
  const TempDir dir;
  const auto path = dir / "metrics.jsonl";
  {
    MetricsFile killed(path);
    for (const int step : {10, 20, 30}) {
      killed.add(training(step));
      killed.add(evaluation(step, 3));
    }
  }
  write_file(path, read_file(path) + R"({"step": 40, "loss)");  // killed in the middle of a record
  EXPECT_THAT(steps(MetricsFile::read(path).training), ElementsAreArray({10, 20, 30}));
  MetricsFile(path, true).add(training(30));
  EXPECT_THAT(steps(MetricsFile::read(path).training), ElementsAreArray({10, 20, 30}));
  EXPECT_THAT(steps(MetricsFile::read(path).evaluations), ElementsAreArray({10, 20}));
  // A run that was stopped in its evaluation goes on with that.
  MetricsFile(path, true).add(evaluation(20, 3));
  EXPECT_THAT(steps(MetricsFile::read(path).training), ElementsAreArray({10, 20}));
  EXPECT_THAT(steps(MetricsFile::read(path).evaluations), ElementsAreArray({10, 20}));
}

TEST(MetricsFile, EndsWithAWholeRecordOnAFullDisk) {
  const TempDir dir;
  const int outcome = with_file_size_limit(200, [&] {
    MetricsFile metrics(dir / "metrics.jsonl");
    metrics.add(training(1));
    return static_cast<int>(outcome_of([&] { metrics.add(training(2)); }, "metrics.jsonl"));
  });
  EXPECT_EQ(outcome, kIoErrorNamingTheFile);
  EXPECT_THAT(steps(MetricsFile::read(dir / "metrics.jsonl").training), ElementsAreArray({1}));
}

TEST(MetricsFile, NamesWhatIsWrong) {
  const TempDir dir;
  EXPECT_TRUE(MetricsFile::read(dir / "none.jsonl").training.empty());
  write_file(dir / "metrics.jsonl", "{\"step\": 1, \"loss\": 2}\n{\"step\": \"two\"}\n");
  expect_error<FormatError>([&] { MetricsFile::read(dir / "metrics.jsonl"); }, {"metrics.jsonl:2", "step"});
  expect_error<IoError>([&] { MetricsFile(dir / "nowhere/metrics.jsonl").add(training(1)); }, {"nowhere"});
}

}  // namespace
}  // namespace gpt::test
