// What a training run keeps when it fails or is resumed where nothing is left, and what it refuses to go on with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/train/trainer.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::small_model;
using ::testing::HasSubstr;

// Losses as ever, but in the batches from `from` on with one of them, or with its gradients, spoiled.
BatchLoss spoiled(int from, bool gradients, int& batches) {
  return [=, &batches](std::span<const Sample>) -> ops::RowLoss {
    const bool bad = ++batches >= from;
    return [=](const ops::LossRow& row) {
      ops::LossRow scaled = row;
      if (bad && gradients) scaled.scale = std::numeric_limits<float>::infinity();
      const double loss = ops::CrossEntropy()(scaled);
      return bad && !gradients ? std::nan("") : loss;
    };
  };
}

class FailingRun : public testing::Test {
 protected:
  FailingRun() {
    a_.output_dir = dir_.path();
    a_.gradient_accumulation_steps = 1;
    a_.max_steps = 5;
    a_.save_steps = 1;
    a_.save_total_limit = 1;
  }
  bool saved(int step) const { return fs::exists(dir_ / concat("checkpoint-", step)); }

  test::TempDir dir_;
  TextDataset train_ = test::text(16 * 10 + 1);
  TrainingArguments a_ = test::arguments();
  Model model_ = small_model();
  int batches_ = 0;
};

TEST_F(FailingRun, KeepsTheCheckpointBeforeTheOneWhoseLossIsNotFinite) {
  Trainer trainer(model_, a_, spoiled(4, false, batches_));
  EXPECT_THAT(message_of<NumericError>([&] { trainer.fit(train_); }),
              HasSubstr("the loss after step 3 is nan"));
  EXPECT_FALSE(saved(1));
  EXPECT_TRUE(saved(2));  // of which a loss is known
  EXPECT_TRUE(saved(3));
}

TEST_F(FailingRun, SavesWhatItHasWhenOnlyAGradientIsNotFinite) {
  a_.save_steps = 0;
  Trainer trainer(model_, a_, spoiled(4, true, batches_));
  EXPECT_THAT(message_of<NumericError>([&] { trainer.fit(train_); }),
              HasSubstr("the gradient norm after step 3 is "));
  EXPECT_TRUE(saved(3));
  batches_ = -100;
  a_.resume_from_checkpoint = true;
  Model again = small_model();
  EXPECT_EQ(Trainer(again, a_, spoiled(1, true, batches_)).fit(train_).global_step, 5);
}

TEST_F(FailingRun, SavesNoWeightsThatAreNotFinite) {
  a_.learning_rate = 1e39;
  a_.warmup_steps = 0;
  EXPECT_THAT(message_of<NumericError>([&] { Trainer(model_, a_).fit(train_); }),
              AllOf(HasSubstr("[trainer] parameter "), HasSubstr(" after step 1, which is not saved")));
  EXPECT_FALSE(saved(1));
}

TEST_F(FailingRun, LeavesAtMostTheLimitInTheEnd) {
  Trainer(model_, a_).fit(train_);
  for (const int step : {1, 2, 3, 4}) EXPECT_FALSE(saved(step)) << step;
  EXPECT_TRUE(saved(5));
}

// Its records were complete before it was saved that nothing is left to do.
TEST_F(FailingRun, RecordsNothingAgainWhenNothingIsLeft) {
  const TextDataset validation = test::text(40);
  for (const int patience : {0, 1}) {
    const test::TempDir dir;
    a_.output_dir = dir.path();
    a_.resume_from_checkpoint = false;
    a_.logging_steps = 3;  // the last update is of no multiple
    a_.eval_steps = 2;
    a_.load_best_model_at_end = true;
    a_.early_stopping_patience = patience;
    a_.learning_rate = patience > 0 ? 0 : 1e-2;  // with 0, the second evaluation is no better than the first
    Model model = small_model();
    std::vector<std::int64_t> logged;
    std::vector<std::int64_t> evaluated;
    const TrainingCallbacks note{
        .on_log = [&](const TrainingLog& log) { logged.push_back(log.step); },
        .on_evaluate = [&](const EvaluationLog& log) { evaluated.push_back(log.step); }};
    const TrainingResult result = Trainer(model, a_).fit(train_, &validation, note);
    EXPECT_EQ(result.stopped_early, patience > 0);
    EXPECT_EQ(logged.back(), result.global_step);
    EXPECT_EQ(evaluated.back(), result.global_step);
    logged.clear();
    evaluated.clear();
    a_.resume_from_checkpoint = true;
    Model again = small_model();
    Trainer(again, a_).fit(train_, &validation, note);
    EXPECT_TRUE(logged.empty() && evaluated.empty()) << patience;
  }
}

// In this process and in another, also with --resume, which would find the checkpoints of the first.
TEST_F(FailingRun, IsRefusedWhileAnotherOneIsAtWorkInItsDirectory) {
  a_.output_dir = dir_ / "out";
  const auto refused = [&] {
    TrainingArguments again = a_;
    again.resume_from_checkpoint = true;
    Model other = small_model();
    const auto before = test::weights(other);
    Trainer trainer(other, again);
    const std::string message = message_of<BusyError>([&] { trainer.fit(train_); });
    return message == concat("[", a_.output_dir.string(),
                             "] is in use by another run: wait for its end, or choose another directory") &&
           test::same(test::weights(other), before);
  };
  int saves = 0;
  const TrainingCallbacks callbacks{.on_save = [&](const fs::path&) {
    if (++saves != 2) return;
    EXPECT_TRUE(refused());
    const pid_t child = ::fork();
    if (child == 0) {
      const ThreadLimit alone(1);
      ::_exit(refused() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    Model other = small_model();
    TrainingArguments elsewhere = a_;
    elsewhere.output_dir = dir_ / "elsewhere";
    elsewhere.max_steps = 1;
    EXPECT_EQ(Trainer(other, elsewhere).fit(train_).global_step, 1);
  }};
  Trainer(model_, a_).fit(train_, nullptr, callbacks);
  EXPECT_EQ(saves, 5);
  EXPECT_FALSE(fs::exists(dir_ / "out/.lock"));
  a_.resume_from_checkpoint = true;
  EXPECT_EQ(Trainer(model_, a_).fit(train_).global_step, 5);
}

TEST_F(FailingRun, WorksUnderTheLockThatItIsGiven) {
  Model other = small_model();
  {
    Trainer first(model_, a_);
    first.use_lock(DirectoryLock(a_.output_dir));
    EXPECT_EQ(first.fit(train_).global_step, 5);
    message_of<BusyError>([&] { Trainer(other, a_).fit(train_); });
  }
  EXPECT_FALSE(fs::exists(a_.output_dir / ".lock"));
}

TEST_F(FailingRun, LogsTheRestOfARunThatWasStoppedInItsLastEvaluation) {
  const TextDataset validation = test::text(40);
  a_.logging_steps = 100;
  a_.eval_steps = 2;
  a_.early_stopping_patience = 1;
  a_.learning_rate = 0;
  std::stop_source stop;
  const TrainingCallbacks stopping{.on_step = [&](const TrainingLog& log) {
    if (log.step == 4) stop.request_stop();
  }};
  EXPECT_THROW(Trainer(model_, a_).fit(train_, &validation, stopping, stop.get_token()), CancelledError);
  a_.resume_from_checkpoint = true;
  std::vector<std::int64_t> logged;
  Model again = small_model();
  const TrainingResult result = Trainer(again, a_).fit(
      train_, &validation, {.on_log = [&](const TrainingLog& log) { logged.push_back(log.step); }});
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(logged, std::vector<std::int64_t>{4});
}

TEST_F(FailingRun, SavesNothingWhoseEvaluationIsNotFinite) {
  const TextDataset validation = test::text(40);
  a_.save_steps = 0;
  a_.eval_steps = 2;
  Trainer trainer(model_, a_, spoiled(3, false, batches_));  // the first batch of the evaluation
  EXPECT_THAT(message_of<NumericError>([&] { trainer.fit(train_, &validation); }),
              HasSubstr("the evaluation loss after step 2 is nan"));
  EXPECT_FALSE(saved(2));
}

TEST_F(FailingRun, RemovesWhatAProcessThatWasKilledHadNoTimeToRemove) {
  a_.save_total_limit = std::nullopt;
  Trainer(model_, a_).fit(train_);
  EXPECT_TRUE(saved(4));
  a_.save_total_limit = 1;
  a_.resume_from_checkpoint = true;
  Model again = small_model();
  Trainer(again, a_).fit(train_);
  EXPECT_FALSE(saved(4));
  EXPECT_TRUE(saved(5));
}

TEST_F(FailingRun, IsResumedWithTheModelItWasBegunWith) {
  a_.initial_model = concat(model_.network().fingerprint());
  Trainer(model_, a_).fit(train_);
  a_.resume_from_checkpoint = true;
  Model other = small_model(7), same = small_model();
  EXPECT_EQ(concat(same.network().fingerprint()), a_.initial_model);
  a_.initial_model = concat(other.network().fingerprint());
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(other, a_).fit(train_); }),
              HasSubstr("the model is not that of the run in "));
}

TEST_F(FailingRun, IsResumedWithTheSpecialTokensItWasBegunWith) {
  model_.network().set_special_tokens(1, {5}, {});
  Trainer(model_, a_).fit(train_);
  a_.resume_from_checkpoint = true;
  Model other = small_model();
  other.network().set_special_tokens(1, {6, 7}, {});
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(other, a_).fit(train_); }),
              AllOf(HasSubstr("eos_token_id is [6,7], but the run in "), HasSubstr(" was made with 5")));
  other.network().set_special_tokens(1, {5}, {});
  other.set_generation_config(HfConfig::parse(R"({"eos_token_id": 6})", ""));
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(other, a_).fit(train_); }),
              HasSubstr("eos_token_id is 5 (generation_config.json: 6), but the run in "));
  // A version that wrote nothing of them goes on.
  const fs::path file = a_.output_dir / "checkpoint-5/trainer_state.json";
  HfConfig state = HfConfig::load(file), run = *state.get_object("run");
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) run.erase(key);
  state.set_object("run", run);
  state.save(file);
  EXPECT_EQ(Trainer(other, a_).fit(train_).global_step, 5);
}

TEST(TotalSteps, AreThoseOfTransformers) {
  TrainingArguments a;
  a.per_device_train_batch_size = 1;
  const auto steps = [&](double epochs, std::int64_t samples) {
    a.num_train_epochs = epochs;
    return total_steps(test::text(16 * samples + 1), a);
  };
  // ceil(num_train_epochs * updates of an epoch), in double
  EXPECT_EQ(steps(1.1, 10), 11);
  EXPECT_EQ(steps(1.3, 10), 13);
  EXPECT_EQ(steps(2.1, 10), 21);
  EXPECT_EQ(steps(2.2, 5), 11);
  EXPECT_EQ(steps(0.25, 5), 2);
  EXPECT_EQ(steps(3, 7), 21);
}

TEST(TrainingArguments, RefuseAWarmupThatTheScheduleDoesNotHave) {
  TrainingArguments a;
  a.lr_scheduler_type = LrScheduler::kConstant;
  a.validate();
  a.warmup_ratio = 0.1;
  EXPECT_EQ(message_of<ArgumentError>([&] { a.validate(); }),
            "[trainer] warmup_ratio is set, but constant has no warmup: constant_with_warmup has");
}

}  // namespace
}  // namespace gpt
