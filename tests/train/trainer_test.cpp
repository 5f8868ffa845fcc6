// The training loop: what it does in which order, and that a run which was interrupted ends as one which was not.
#include "gpt/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/gguf.h"
#include "gpt/peft/lora.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/rounding_upward.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::arguments;
using test::message_of;
using test::same;
using test::small_model;
using test::text;
using test::weights;
using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// A run of two updates that came to its end, and its checkpoint.
struct FinishedRun {
  test::TempDir dir;
  TextDataset train = text(16 * 10 + 1);
  TrainingArguments a = arguments();
  Model model = small_model();
  fs::path checkpoint = dir / "checkpoint-2";

  FinishedRun() {
    a.output_dir = dir.path();
    a.max_steps = 2;
    Trainer(model, a).fit(train);
  }
};

TEST(Trainer, LearnsAndReportsHow) {
  Model model = small_model();
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  std::vector<TrainingLog> logs;
  std::vector<EvaluationLog> evaluations;
  Trainer trainer(model, arguments());
  const double before = trainer.evaluate(validation).eval_loss;
  const TrainingResult result =
      trainer.fit(train, &validation,
                  {.on_log = [&](const TrainingLog& log) { logs.push_back(log); },
                   .on_evaluate = [&](const EvaluationLog& log) { evaluations.push_back(log); }});
  // 10 samples: 5 batches, 3 updates an epoch, 2.5 epochs.
  EXPECT_EQ(total_steps(train, arguments()), 8);
  EXPECT_EQ(result.global_step, 8);
  std::vector<std::int64_t> steps;
  for (const TrainingLog& log : logs) steps.push_back(log.step);
  EXPECT_THAT(steps, ElementsAreArray({2, 4, 6, 8}));
  EXPECT_DOUBLE_EQ(logs[0].learning_rate, 1e-2 / 3);
  EXPECT_EQ(logs[3].learning_rate, 1e-2 * (1.0 / 5));
  EXPECT_EQ(logs[3].tokens, 2 * 160 + 2 * 64);
  EXPECT_GT(logs[0].grad_norm, 0);
  EXPECT_LT(logs[3].loss, logs[0].loss);
  steps.clear();
  for (const EvaluationLog& log : evaluations) steps.push_back(log.step);
  EXPECT_THAT(steps, ElementsAreArray({3, 6, 8}));
  EXPECT_LT(evaluations[2].eval_loss, before);
  EXPECT_NEAR(evaluations[2].perplexity, std::exp(evaluations[2].eval_loss), 1e-9);
  EXPECT_EQ(trainer.evaluate(validation).eval_loss, evaluations[2].eval_loss);
}

TEST(Trainer, ReportsEveryUpdateForItself) {
  const TextDataset train = text(16 * 10 + 1);
  Model model = small_model();
  std::vector<TrainingLog> steps, logs;
  TrainingArguments a = arguments();
  a.max_steps = 5;
  Trainer(model, a).fit(train, nullptr,
                        {.on_log = [&](const TrainingLog& log) { logs.push_back(log); },
                         .on_step =
                             [&](const TrainingLog& log) {
                               steps.push_back(log);
                               EXPECT_EQ(logs.size(), static_cast<std::size_t>(log.step - 1) / 2);  // not yet
                             }});
  ASSERT_EQ(steps.size(), 5u);
  ASSERT_EQ(logs.size(), 3u);
  // Updates of 64, 64 and 32 labels make an epoch.
  EXPECT_NEAR(logs[0].loss, (steps[0].loss + steps[1].loss) / 2, 1e-12);
  EXPECT_NEAR(logs[1].loss, (steps[2].loss * 32 + steps[3].loss * 64) / 96, 1e-12);
  EXPECT_EQ(logs[2].loss, steps[4].loss);
  EXPECT_EQ(logs[1].grad_norm, steps[3].grad_norm);
  EXPECT_EQ(steps[4].total_steps, 5);
  EXPECT_EQ(steps[4].tokens, 64 + 64 + 32 + 64 + 64);
  // The pace of two updates together lies between theirs.
  EXPECT_LE(std::min(steps[0].tokens_per_s, steps[1].tokens_per_s), logs[0].tokens_per_s * (1 + 1e-12));
  EXPECT_GE(std::max(steps[0].tokens_per_s, steps[1].tokens_per_s), logs[0].tokens_per_s * (1 - 1e-12));
  EXPECT_GT(steps[0].tokens_per_s, 0);
}

TEST(Trainer, AppliesDropoutInTrainingAlone) {
  const TextDataset train = text(16 * 10 + 1);
  TrainingArguments a = arguments();
  a.max_steps = 1;
  double losses[4] = {}, evaluations[4] = {};
  for (const int i : {0, 1, 2, 3}) {
    Model model = small_model();
    model.network().set_dropout(i == 1 ? 0.5f : 0.0f, i == 2 ? 0.5f : 0.0f, i == 3 ? 0.5f : 0.0f);
    evaluations[i] = Trainer(model, a).evaluate(train).eval_loss;
    Trainer(model, a).fit(train, nullptr, {.on_log = [&](const TrainingLog& log) { losses[i] = log.loss; }});
  }
  for (const int i : {1, 2, 3}) {
    EXPECT_NE(losses[i], losses[0]) << i;
    EXPECT_EQ(evaluations[i], evaluations[0]) << i;
  }
}

TEST(Trainer, GivesTheSameBitsOnAnyNumberOfThreads) {
  const TextDataset train = text(16 * 10 + 1);
  for (const bool bf16 : {false, true}) {
    TrainingArguments a = arguments();
    a.bf16 = bf16;
    std::map<std::string, Tensor> results[2];
    for (const int i : {0, 1}) {
      set_num_threads(1 + 2 * i);
      Model model = small_model();
      Trainer(model, a).fit(train);
      results[i] = weights(model);
    }
    set_num_threads(0);
    EXPECT_TRUE(same(results[0], results[1])) << bf16;
  }
}

TEST(Trainer, GivesTheSameBitsHoweverTheHostRounds) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.lr_scheduler_type = LrScheduler::kCosine;
  Model model = small_model(), upward = small_model();
  const TrainingResult expected = Trainer(model, a).fit(train, &validation);
  TrainingResult got;
  {
    const test::RoundingUpward host;
    got = Trainer(upward, a).fit(train, &validation);
    EXPECT_EQ(Trainer(upward, a).evaluate(validation).eval_loss, *got.best_eval_loss);
  }
  EXPECT_EQ(got.training_loss, expected.training_loss);
  EXPECT_EQ(got.best_eval_loss, expected.best_eval_loss);
  EXPECT_TRUE(same(weights(model), weights(upward)));
}

TEST(Trainer, SmoothsTheLabelsOfEveryLoss) {
  const TextDataset train = text(16 * 10 + 1);
  TrainingArguments plain = arguments(), smooth = arguments();
  plain.learning_rate = smooth.learning_rate = 0;
  plain.num_train_epochs = smooth.num_train_epochs = 1;
  smooth.label_smoothing_factor = 1;
  Model model = small_model();
  model.network().set_dropout(0, 0, 0);
  const double surprise = Trainer(model, plain).evaluate(train).eval_loss,
               mean = Trainer(model, smooth).evaluate(train).eval_loss;
  smooth.label_smoothing_factor = 0.1;
  const double evaluated = Trainer(model, smooth).evaluate(train).eval_loss;
  EXPECT_GT(mean, surprise + 0.1);  // so that the next lines say something
  EXPECT_NEAR(evaluated, 0.9 * surprise + 0.1 * mean, 1e-12);
  EXPECT_NEAR(Trainer(model, smooth).fit(train).training_loss, evaluated, 1e-12);
}

// The cross entropy, doubled in rows that predict one of the first tokens of a sample; notes what it is shown.
BatchLoss own_loss(std::vector<std::size_t>& batches) {
  return [&](std::span<const Sample> samples) -> ops::RowLoss {
    batches.push_back(samples.size());
    std::vector<std::pair<TokenId, bool>> rows;  // the label, and whether it counts twice
    for (const Sample& s : samples)
      for (std::size_t t = 1; t < s.ids.size(); ++t) rows.emplace_back(s.labels[t], t < 4);
    return [rows = std::move(rows)](const ops::LossRow& row) {
      const auto& [label, twice] = rows.at(static_cast<std::size_t>(row.index));
      if (label != row.label) throw ArgumentError("the row of another label");
      ops::LossRow scaled = row;
      if (twice) scaled.scale *= 2;
      return (twice ? 2 : 1) * ops::CrossEntropy()(scaled);
    };
  };
}

TEST(Trainer, LearnsFromAUsersOwnLoss) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  const auto trained = [&](const TrainingArguments& a, const BatchLoss& loss) {
    Model model = small_model();
    const TrainingResult result = Trainer(model, a, loss).fit(train, &validation);
    return std::pair(weights(model), *result.best_eval_loss);
  };
  const auto plain = trained(arguments(), {});
  // Its own cross entropy is that of the library.
  const auto same_loss = trained(arguments(), [](std::span<const Sample>) { return ops::CrossEntropy(); });
  EXPECT_TRUE(same(plain.first, same_loss.first));
  EXPECT_EQ(plain.second, same_loss.second);
  std::vector<std::size_t> batches;
  const auto own = trained(arguments(), own_loss(batches));
  EXPECT_FALSE(same(plain.first, own.first));
  EXPECT_GT(own.second, plain.second);
  EXPECT_THAT(batches, testing::Contains(std::size_t{2}));  // of training; an evaluation takes all 3
  EXPECT_THAT(batches, testing::Contains(std::size_t{3}));
}

TEST(Trainer, ResumesALossOfItsOwnWithOneOfItsOwn) {
  FinishedRun run;
  run.a.resume_from_checkpoint = true;
  std::vector<std::size_t> batches;
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(run.model, run.a, own_loss(batches)).fit(run.train); }),
              HasSubstr("loss is one of its own, but "));
  run.a.label_smoothing_factor = 0.5;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(run.model, run.a, own_loss(batches)); }),
            "[trainer] label_smoothing_factor is 0.5, but a loss of its own is set, expected 0");
}

TEST(Trainer, CallsBackInTheDefaultFloatEnvironment) {
  Model model = small_model();
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  const test::TempDir dir;
  TrainingArguments a = arguments();
  a.output_dir = dir.path();
  a.max_steps = 1;
  std::vector<int> seen;
  const auto see = [&](const auto&) { seen.push_back(std::fegetround()); };
  const test::RoundingUpward host;
  Trainer(model, a).fit(train, &validation,
                        {.on_begin = see, .on_log = see, .on_step = see, .on_evaluate = see, .on_save = see});
  EXPECT_EQ(seen, std::vector<int>(5, FE_TONEAREST));
}

TEST(Trainer, AccumulatesToTheMeanOverAllLabels) {
  const TextDataset train = text(16 * 3 + 5);  // the last sample is shorter
  TrainingArguments whole = arguments(), parts = arguments();
  whole.max_steps = parts.max_steps = 1;
  whole.per_device_train_batch_size = 4;
  whole.gradient_accumulation_steps = 1;
  parts.per_device_train_batch_size = 1;
  parts.gradient_accumulation_steps = 4;
  double norms[2] = {}, losses[2] = {};
  for (const int i : {0, 1}) {
    Model model = small_model();
    model.network().set_dropout(0, 0, 0);  // whose masks are those of a batch
    Trainer(model, i == 0 ? whole : parts).fit(train, nullptr, {.on_log = [&](const TrainingLog& log) {
                                                 norms[i] = log.grad_norm;
                                                 losses[i] = log.loss;
                                               }});
  }
  EXPECT_NEAR(norms[0], norms[1], norms[0] * 64 * 0x1p-24);  // the same sums in another order
  EXPECT_NEAR(losses[0], losses[1], losses[0] * 1e-12);
}

TEST(Trainer, NamesADamagedState) {
  for (const auto& [key, value] : {std::pair("next_batch", 99), {"epoch", -1}, {"global_step", 1}}) {
    FinishedRun run;
    HfConfig state = HfConfig::load(run.checkpoint / "trainer_state.json");
    state.set_int(key, value);
    if (key == std::string("next_batch")) {
      state.set_int("global_step", 1);  // so that there is something left to do
      fs::rename(run.checkpoint, run.dir / "checkpoint-1");
      run.checkpoint = run.dir / "checkpoint-1";
    }
    state.save(run.checkpoint / "trainer_state.json");
    run.a.resume_from_checkpoint = true;
    EXPECT_THROW(Trainer(run.model, run.a).fit(run.train), FormatError) << key;
  }
}

TEST(Trainer, LoadsACheckpointAsAWholeOrNotAtAll) {
  FinishedRun run;
  const fs::path file = run.checkpoint / "model.safetensors";
  const Tensor wrong = Tensor::zeros({3});
  std::vector<NamedTensor> tensors;
  {
    const SafetensorsFile saved(file);
    for (const std::string& name : saved.names())
      tensors.push_back({name, name.ends_with("ln_f.bias") ? wrong.view() : saved.tensor(name).view()});
    save_safetensors(file, tensors);
  }
  run.a.resume_from_checkpoint = true;
  Model other = small_model(7);
  const auto before = weights(other);
  EXPECT_THAT(message_of<FormatError>([&] { Trainer(other, run.a).fit(run.train); }),
              HasSubstr("transformer.ln_f.bias is float32 [3], expected float32 ["));
  EXPECT_TRUE(same(before, weights(other)));
}

TEST(Trainer, RefusesToMixRuns) {
  FinishedRun run;
  const auto refused = [&](const TrainingArguments& with, const TextDataset& data) {
    Model again = small_model();
    return message_of<ArgumentError>([&] { Trainer(again, with).fit(data); });
  };
  EXPECT_THAT(refused(run.a, run.train), HasSubstr("holds another run (checkpoint-2): resume it"));
  Model untouched = small_model();
  untouched.network().visit(
      [](const std::string&, Tensor& tensor, const Shape&) { tensor = tensor.to(DType::f16); });
  EXPECT_THROW(Trainer(untouched, run.a).fit(run.train), ArgumentError);
  untouched.network().visit([](const std::string& name, const Tensor& tensor, const Shape&) {
    EXPECT_EQ(tensor.dtype(), DType::f16) << name;
  });
  run.a.resume_from_checkpoint = true;
  EXPECT_THAT(refused(run.a, text(16 * 9 + 1)),
              AllOf(HasSubstr("the training data is not that of the run in "), HasSubstr("checkpoint-2, ")));
  run.a.learning_rate = 0.5;
  EXPECT_THAT(refused(run.a, run.train), AllOf(HasSubstr("learning_rate is 0.5, but the run in "),
                                               HasSubstr("checkpoint-2 was made with 0.01")));
}

TEST(Trainer, SaysInWordsWhatOfARunHasNoReadableValue) {
  FinishedRun run;
  run.a.resume_from_checkpoint = true;
  const TextDataset validation = text(40), other = text(41);
  const auto refused = [&run](Model model, const TrainingArguments& with, const TextDataset* evaluation) {
    return message_of<ArgumentError>([&] { Trainer(model, with).fit(run.train, evaluation); });
  };
  const auto with_adapter = [](std::int64_t rank) {
    Model model = small_model();
    model.network().attach(std::make_shared<LoraAdapter>(model.network(), LoraConfig{.r = rank}, 1));
    return model;
  };
  const std::string of_run = concat("the run in ", (run.dir / "checkpoint-2").string());
  EXPECT_EQ(refused(small_model(), run.a, &validation),
            concat("[trainer] there is evaluation data, but ", of_run, " was made without"));
  EXPECT_EQ(refused(with_adapter(1), run.a, nullptr),
            concat("[trainer] there is an adapter, but ", of_run, " was made without"));
  TrainingArguments other_rates = run.a;
  other_rates.learning_rate_factor_of = [](std::string_view) { return 0.5; };
  EXPECT_EQ(refused(small_model(), other_rates, nullptr),
            concat("[trainer] there is a learning_rate_factor_of, but ", of_run, " was made without"));

  const test::TempDir dir;
  TrainingArguments a = run.a;
  a.resume_from_checkpoint = false;
  a.output_dir = dir.path();
  a.learns = [](std::string_view name) { return name.find("mlp") != name.npos; };
  const std::string of_other = concat("the run in ", (dir / "checkpoint-2").string());
  Model model = small_model();
  Trainer(model, a).fit(run.train, &validation);
  a.resume_from_checkpoint = true;
  EXPECT_EQ(refused(small_model(), a, nullptr), concat("[trainer] there is no evaluation data, but ",
                                                       of_other, " was made with evaluation data"));
  EXPECT_EQ(refused(small_model(), a, &other), concat("[trainer] the evaluation data is not that of ",
                                                      of_other, ", which goes on with the same alone"));
  a.learns = [](std::string_view name) { return name.find("attn") != name.npos; };
  EXPECT_EQ(refused(small_model(), a, &validation),
            concat("[trainer] the choice of what learns is not that of ", of_other,
                   ", which goes on with the same alone"));
  a.learns = nullptr;
  EXPECT_EQ(refused(small_model(), a, &validation),
            concat("[trainer] there is no choice of what learns, but ", of_other,
                   " was made with a choice of what learns"));
}

TEST(Trainer, KeepsTheBestAndTheLastCheckpoints) {
  const test::TempDir dir;
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.output_dir = dir.path();
  a.save_steps = 1;
  a.save_total_limit = 2;
  a.eval_steps = 1;
  a.load_best_model_at_end = true;
  a.learning_rate = 0.3;  // so large that the loss grows again
  a.num_train_epochs = 4;
  Model model = small_model();
  double best = std::numeric_limits<double>::infinity();
  std::int64_t best_step = 0;
  const TrainingResult result =
      Trainer(model, a).fit(train, &validation, {.on_evaluate = [&](const EvaluationLog& log) {
                              if (log.eval_loss < best) {
                                best = log.eval_loss;
                                best_step = log.step;
                              }
                            }});
  EXPECT_EQ(result.best_step, best_step);
  EXPECT_EQ(*result.best_eval_loss, best);
  EXPECT_EQ(Trainer(model, a).evaluate(validation).eval_loss, best);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir.path()))
    names.push_back(entry.path().filename().string());
  EXPECT_LE(names.size(), 2u);
  EXPECT_TRUE(fs::exists(dir.path() / concat("checkpoint-", best_step)));
  EXPECT_TRUE(fs::exists(dir.path() / "checkpoint-12"));
}

TEST(Trainer, StopsEarlyWithoutProgress) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.eval_steps = 1;
  a.early_stopping_patience = 2;
  a.learning_rate = 0;
  Model model = small_model();
  const TrainingResult result = Trainer(model, a).fit(train, &validation);
  EXPECT_TRUE(result.stopped_early);
  EXPECT_EQ(result.global_step, 3);
}

TEST(Trainer, NamesALossThatIsNotFiniteAndKeepsTheModel) {
  Model model = small_model();
  const TextDataset train = text(16 * 10 + 1);
  TrainingArguments a = arguments();
  a.max_steps = 1;
  Trainer(model, a).fit(train);
  model.network().visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "ln_f.weight") tensor.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  });
  const auto before = weights(model);
  EXPECT_EQ(message_of<NumericError>([&] { Trainer(model, a).fit(train); }),
            "[trainer] the loss after step 0 is nan; parameter ln_f.weight: element [3] is nan; the model is "
            "as after that step");
  EXPECT_TRUE(same(before, weights(model)));
}

TEST(Trainer, TrainsAGgufFileAsTheCheckpointItCameFrom) {
  const test::TempDir dir;
  const TextDataset train = text(16 * 10 + 1);
  Model original = small_model();
  save_gguf(original, dir / "m.gguf");
  Model mapped = Model::load(dir / "m.gguf");
  for (Model* const model : {&original, &mapped}) Trainer(*model, arguments()).fit(train);
  EXPECT_TRUE(same(weights(mapped), weights(original)));
}

TEST(Trainer, RefusesAPackedNetworkByAMatrix) {
  Model model = small_model();
  model.network().pack();
  EXPECT_EQ(
      message_of<UnsupportedError>([&] { Trainer(model, arguments()); }),
      "[trainer] matrix wte.weight is packed, and cannot be trained: load the original checkpoint, unpacked");
}

TEST(Trainer, RefusesMoreBatchesThanThereAreRandomNumbersFor) {
  Model model = small_model();
  TrainingArguments a = arguments();
  a.max_steps = std::int64_t{1} << 30;  // of two batches
  EXPECT_EQ(
      message_of<ArgumentError>([&] { Trainer(model, a).fit(text(40)); }),
      "[trainer] 1073741824 updates of 2 batches, expected at most 2147483647 batches: there are no random "
      "numbers for more");
}

TEST(Trainer, RefusesOptionsOutOfRange) {
  Model other = small_model();
  TrainingArguments a;
  a.gradient_accumulation_steps = 0;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(other, a); }),
            "[trainer] gradient_accumulation_steps is 0, expected 1 or more");
  a = {};
  a.num_train_epochs = 2e9;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(other, a); }),
            "[trainer] num_train_epochs is 2e+09, expected more than 0, at most 1e9");
  a = {};
  a.label_smoothing_factor = 1.5;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(other, a); }),
            "[trainer] label_smoothing_factor is 1.5, expected 0 to 1");
  a = {};
  a.ema_decay = 1;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(other, a); }),
            "[trainer] ema_decay is 1, expected 0 or more, and less than 1");
  a = {};
  a.load_best_model_at_end = true;
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(other, a); }),
            "[trainer] load_best_model_at_end needs an output_dir");
}

}  // namespace
}  // namespace gpt
