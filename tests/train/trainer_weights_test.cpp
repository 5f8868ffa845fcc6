// Which weights a run computes with, keeps and leaves: float32, bfloat16 and their average; and that a run which was interrupted
// ends with those of one which was not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/train/trainer.h"
#include "support/isa.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::arguments;
using test::same;
using test::small_model;
using test::text;
using test::weights;

// How a run may be different, for what holds of all runs.
struct Variant {
  const char* name;
  std::function<void(TrainingArguments&)> set;
};
const Variant kVariants[] = {{"float32", [](TrainingArguments&) {}},
                             {"bf16", [](TrainingArguments& a) { a.bf16 = true; }},
                             {"average", [](TrainingArguments& a) { a.ema_decay = 0.75; }},
                             {"average of bf16",
                              [](TrainingArguments& a) {
                                a.bf16 = true;
                                a.ema_decay = 0.75;
                              }},
                             {"mean from the middle on", [](TrainingArguments& a) { a.swa_start = 0.5; }},
                             {"layer by layer", [](TrainingArguments& a) {
                                a.unfreeze_steps = 2;
                                a.layerwise_lr_decay = 0.8;
                              }}};

void expect_the_same_after_a_stop(const Variant& variant) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments whole_arguments = arguments();
  variant.set(whole_arguments);
  Model whole = small_model();
  const TrainingResult undisturbed = Trainer(whole, whole_arguments).fit(train, &validation);
  for (const std::int64_t stopped_after : {1, 3, 5, 7}) {
    const test::TempDir dir;
    TrainingArguments a = whole_arguments;
    a.output_dir = dir.path();
    a.save_steps = 2;
    a.logging_steps = 1;
    std::stop_source stop;
    Model model = small_model();
    const TrainingCallbacks stopping{.on_log = [&](const TrainingLog& log) {
      if (log.step == stopped_after) stop.request_stop();
    }};
    EXPECT_THROW(Trainer(model, a).fit(train, &validation, stopping, stop.get_token()), CancelledError);
    fs::create_directory(dir.path() / ".checkpoint-99");  // of a process that was killed
    a.resume_from_checkpoint = true;
    const ThreadLimit another_number(1);
    Model other = small_model(7);  // its weights come from the checkpoint
    std::int64_t first = 0;
    std::optional<std::int64_t> resumed;
    const TrainingResult result = Trainer(other, a).fit(
        train, &validation,
        {.on_begin = [&](std::optional<std::int64_t> step) { resumed = step; },
         .on_log = [&](const TrainingLog& log) { first = first == 0 ? log.step : first; }});
    EXPECT_EQ(resumed, stopped_after);
    EXPECT_EQ(first, stopped_after + 1);
    EXPECT_EQ(result.global_step, 8);
    EXPECT_EQ(result.best_eval_loss, undisturbed.best_eval_loss)
        << stopped_after;  // after 3 it stops in an evaluation
    EXPECT_EQ(result.best_step, undisturbed.best_step) << stopped_after;
    EXPECT_TRUE(same(weights(whole), weights(other))) << stopped_after;
    EXPECT_FALSE(fs::exists(dir.path() / ".checkpoint-99"));
    const Model saved = Model::load(dir.path() / "checkpoint-8");
    if (a.ema_decay == 0 && a.swa_start == 0)
      EXPECT_TRUE(same(a.bf16 ? weights(whole, DType::bf16) : weights(whole), weights(saved)));
    else
      EXPECT_FALSE(same(weights(whole), weights(saved)));  // the average, and what it is of
  }
}

TEST(TrainerWeights, GoesOnFromACheckpointToTheSameBits) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const Variant& variant : kVariants) {
    SCOPED_TRACE(variant.name);
    expect_the_same_after_a_stop(variant);
  }
}

TEST(TrainerWeights, ComputesInBfloat16AndLearnsInFloat32) {
  const test::TempDir dir;
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.learning_rate = 1e-5;  // of which most steps are lost in bfloat16
  a.warmup_steps = 0;
  Model plain = small_model(), half = small_model();
  const TrainingResult expected = Trainer(plain, a).fit(train, &validation);
  a.bf16 = true;
  a.output_dir = dir.path();
  std::map<std::string, Tensor> seen;
  const TrainingResult got =
      Trainer(half, a).fit(train, &validation, {.on_evaluate = [&](const EvaluationLog& log) {
                             seen = weights(half);
                             EXPECT_EQ(log.eval_loss, Trainer(half, a).evaluate(validation).eval_loss);
                           }});
  // What was computed with is what is learned, rounded.
  EXPECT_TRUE(same(seen, weights(half, DType::bf16)));
  EXPECT_TRUE(same(seen, weights(Model::load(dir / "checkpoint-8"))));
  const auto learned = weights(half);
  for (const auto& [name, tensor] : weights(small_model())) {
    ASSERT_EQ(learned.at(name).dtype(), DType::f32) << name;
    double far = 0;
    std::int64_t moved = 0;
    for (std::size_t i = 0; i < tensor.span<float>().size(); ++i) {
      const float step = learned.at(name).span<float>()[i] - tensor.span<float>()[i];
      moved += step != 0;
      far = std::max(far, std::abs(static_cast<double>(step)));
    }
    if (name != "wpe.weight") {  // of which half is never used
      EXPECT_GT(2 * moved, tensor.numel()) << name;
    }
    EXPECT_LT(far, 8 * 1.1e-5 + 1e-6) << name;  // as many updates, each of about the rate; decay
  }
  EXPECT_NE(got.training_loss, expected.training_loss);
  EXPECT_NEAR(got.training_loss, expected.training_loss, 0x1p-6 * expected.training_loss);
}

TEST(TrainerWeights, BringsBackTheBestOfBfloat16InFloat32) {
  const test::TempDir dir;
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.bf16 = a.load_best_model_at_end = true;
  a.output_dir = dir.path();
  a.eval_steps = 1;
  a.learning_rate = 0.3;
  Model model = small_model();
  std::map<std::string, Tensor> best;
  const TrainingResult result =
      Trainer(model, a).fit(train, &validation, {.on_evaluate = [&](const EvaluationLog& log) {
                              if (log.best) best = weights(model);
                            }});
  EXPECT_LT(result.best_step, 8);
  EXPECT_TRUE(same(best, weights(model, DType::bf16)));
  EXPECT_FALSE(same(weights(model), weights(Model::load(dir / concat("checkpoint-", result.best_step)))));
}

TEST(TrainerWeights, EvaluatesAndKeepsTheAverageOfTheWeights) {
  const test::TempDir dir;
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  Model plain = small_model();
  Trainer(plain, a).fit(train);
  a.ema_decay = 0.75;
  a.eval_steps = 4;
  a.output_dir = dir.path();
  Model model = small_model();
  std::map<std::string, Tensor> by_hand, evaluated;
  const TrainingCallbacks callbacks{.on_step =
                                        [&](const TrainingLog& log) {
                                          auto now = weights(model);
                                          if (log.step == 1) by_hand = std::move(now);
                                          if (log.step == 1) return;
                                          for (auto& [name, tensor] : by_hand)
                                            for (std::size_t i = 0; i < tensor.span<float>().size(); ++i) {
                                              float& x = tensor.span<float>()[i];
                                              x = std::fma(0.25f, now.at(name).span<float>()[i], 0.75f * x);
                                            }
                                        },
                                    .on_evaluate =
                                        [&](const EvaluationLog& log) {
                                          evaluated = weights(model);
                                          EXPECT_TRUE(same(by_hand, evaluated)) << log.step;
                                          EXPECT_EQ(log.eval_loss,
                                                    Trainer(model, a).evaluate(validation).eval_loss);
                                        }};
  const TrainingResult result = Trainer(model, a).fit(train, &validation, callbacks);
  EXPECT_TRUE(same(by_hand, weights(model)));
  EXPECT_EQ(Trainer(model, a).evaluate(validation).eval_loss, *result.best_eval_loss);
  // What is learned does not depend on the average.
  EXPECT_TRUE(same(weights(plain), weights(Model::load(dir / "checkpoint-8"))));
}

TEST(TrainerWeights, KeepsTheMeanOfTheLastWeights) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.swa_start = 0.4;  // of 8 updates: after the fourth
  a.eval_steps = 1;
  Model model = small_model();
  std::vector<std::map<std::string, Tensor>> all;
  std::map<std::string, Tensor> evaluated;
  Trainer(model, a).fit(train, &validation,
                        {.on_step = [&](const TrainingLog&) { all.push_back(weights(model)); },
                         .on_evaluate =
                             [&](const EvaluationLog& log) {
                               if (log.step <= 4) {
                                 EXPECT_TRUE(same(all.back(), weights(model))) << log.step;
                               }
                               evaluated = weights(model);
                             }});
  ASSERT_EQ(all.size(), 8u);
  EXPECT_TRUE(same(evaluated, weights(model)));
  for (const auto& [name, tensor] : weights(model))
    for (std::size_t i = 0; i < tensor.span<float>().size(); ++i) {
      double mean = 0;
      for (std::size_t step = 3; step < 8; ++step)
        mean += static_cast<double>(all[step].at(name).span<float>()[i]) / 5;
      // Four roundings of a product and four of a sum, each of half a unit in the last place.
      ASSERT_NEAR(tensor.span<float>()[i], mean, 1e-6 * (1 + std::abs(mean))) << name;
    }
}

TEST(TrainerWeights, BringsBackTheBestAverage) {
  for (const bool bf16 : {false, true}) {
    const test::TempDir dir;
    const TextDataset train = text(16 * 10 + 1), validation = text(40);
    TrainingArguments a = arguments();
    a.bf16 = bf16;
    a.load_best_model_at_end = true;
    a.output_dir = dir.path();
    a.eval_steps = 1;
    a.learning_rate = 3;  // so large that the loss grows
    a.ema_decay = 0.1;
    Model model = small_model();
    std::map<std::string, Tensor> best;
    const TrainingResult result =
        Trainer(model, a).fit(train, &validation, {.on_evaluate = [&](const EvaluationLog& log) {
                                if (log.best) best = weights(model);
                              }});
    EXPECT_LT(result.best_step, 8);
    EXPECT_TRUE(same(best, weights(model))) << bf16;
  }
}

TEST(TrainerWeights, LeavesTheFloat32WeightsOfARunThatFailed) {
  const TextDataset train = text(16 * 10 + 1);
  TrainingArguments a = arguments();
  a.bf16 = true;
  a.lr_scheduler_type = LrScheduler::kConstantWithWarmup;  // whatever the number of steps
  Model failed = small_model(), ended = small_model();
  const TrainingCallbacks failing{.on_step = [](const TrainingLog& log) {
    if (log.step == 2) throw IoError("full");
  }};
  EXPECT_THROW(Trainer(failed, a).fit(train, nullptr, failing), IoError);
  a.max_steps = 2;
  Trainer(ended, a).fit(train);
  EXPECT_TRUE(same(weights(failed), weights(ended)));
  EXPECT_FALSE(same(weights(failed), weights(small_model())));
}

}  // namespace
}  // namespace gpt
