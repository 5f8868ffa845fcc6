// Preferences and distillation: what the losses are, that their gradients are theirs, and that a training lowers them.
#include "gpt/train/preference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/evaluate/score.h"
#include "gpt/models/quantize.h"
#include "gpt/peft/lora.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/train/distillation.h"
#include "gpt/train/parameters.h"
#include "small_run.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::small_model;
using test::tiny_config;
using test::tokens;
using ::testing::Pair;

/// A prompt of three tokens, and an answer from the upper or the lower half of the vocabulary.
Sample pair_of(std::size_t i) {
  const auto answer = [&](TokenId base, std::vector<TokenId>& ids, std::vector<TokenId>& labels) {
    ids = {static_cast<TokenId>(1 + i % 5), 2, 3};
    labels.assign(3, kIgnoredLabel);
    for (std::size_t t = 0; t < 3 + i % 3; ++t) {
      ids.push_back(base + static_cast<TokenId>((7 * i + 3 * t) % 40));
      labels.push_back(ids.back());
    }
  };
  Sample sample;
  answer(50, sample.ids, sample.labels);
  answer(5, sample.rejected_ids, sample.rejected_labels);
  sample.rejected_ids.push_back(9);  // one more than the other
  sample.rejected_labels.push_back(9);
  return sample;
}

PreferenceDataset pairs(std::size_t count, std::size_t first = 0) {
  std::vector<Sample> all;
  for (std::size_t i = 0; i < count; ++i) all.push_back(pair_of(first + i));
  return PreferenceDataset(std::move(all));
}

/// The sum of log p of the labels behind the first three ids.
double log_prob(const Gpt2& network, const std::vector<TokenId>& ids) {
  const auto all = token_log_probs(network, ids);
  return std::accumulate(all.begin() + 2, all.end(), 0.0);
}

LossSum loss_of(const Objective& objective, const Gpt2& network, std::span<const Sample> samples) {
  Arena arena;
  return objective.loss(network, samples, arena, {});
}

/// Expects the gradients of the mean loss to be its slopes, at some elements of every parameter.
void expect_gradients(const Objective& objective, Gpt2& network, std::span<const Sample> samples) {
  const Parameters parameters(network);
  Tape tape;
  parameters.watch(tape);
  Arena arena;
  const LossSum loss = objective.loss(network, samples, arena, {.tape = &tape, .scale = 0.5});
  EXPECT_EQ(loss.sum, loss_of(objective, network, samples).sum);
  tape.backward();
  for (const Parameter& p : parameters.all()) {
    const std::int64_t n = p.value.numel();
    for (const std::int64_t i : {n / 3, n / 2}) {
      constexpr float kStep = 0x1p-7f;
      float& x = p.value.data<float>()[i];
      const float before = x;
      x = before + kStep;
      const double above = loss_of(objective, network, samples).sum;
      x = before - kStep;
      const double below = loss_of(objective, network, samples).sum;
      x = before;
      const double slope = 0.5 * (above - below) / (2 * static_cast<double>(kStep));
      // Losses of some tens of float32 products are off by 1e-6 of their size, and the third derivative counts by 2e-5.
      EXPECT_NEAR(p.gradient.data<float>()[i], slope, 2e-3 * std::max(1.0, std::abs(slope)))
          << p.name << " " << i;
    }
  }
}

TEST(PreferenceObjective, IsTheLossOfDpo) {
  const Gpt2 before = random_network(tiny_config(), 1), now = random_network(tiny_config(), 2);
  const PreferenceObjective objective(before, {.beta = 0.3});
  const Sample pair = pair_of(4);
  const double margin = 0.3 * ((log_prob(now, pair.ids) - log_prob(before, pair.ids)) -
                               (log_prob(now, pair.rejected_ids) - log_prob(before, pair.rejected_ids)));
  EXPECT_NEAR(loss_of(objective, now, {&pair, 1}).sum, std::log1p(std::exp(-margin)), 1e-5);
  // Where nothing has changed, nothing is preferred.
  EXPECT_EQ(loss_of(objective, before, {&pair, 1}).sum, std::log(2.0));
}

TEST(PreferenceObjective, IsTheLossOfSimpo) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const PreferenceObjective objective(network, {.loss = PreferenceLoss::kSimpo, .beta = 2, .gamma = 0.5});
  const Sample pair = pair_of(4);
  const double margin =
      2 * (log_prob(network, pair.ids) / static_cast<double>(pair.ids.size() - 3) -
           log_prob(network, pair.rejected_ids) / static_cast<double>(pair.rejected_ids.size() - 3)) -
      0.5;
  EXPECT_NEAR(loss_of(objective, network, {&pair, 1}).sum, std::log1p(std::exp(-margin)), 1e-5);
}

TEST(PreferenceObjective, HasTheGradientsOfItsLoss) {
  const Gpt2 before = random_network(tiny_config(), 1);
  const std::vector<Sample> samples{pair_of(1), pair_of(2)};
  for (const PreferenceOptions& options :
       {PreferenceOptions{.beta = 0.3},
        PreferenceOptions{.loss = PreferenceLoss::kSimpo, .beta = 2, .gamma = 0.5}}) {
    Gpt2 network = random_network(tiny_config(), 2);
    expect_gradients(PreferenceObjective(before, options), network, samples);
  }
}

TEST(PreferenceObjective, DoesNotDependOnTheBatch) {
  const Gpt2 before = random_network(tiny_config(), 1), now = random_network(tiny_config(), 2);
  const PreferenceObjective objective(before, {.beta = 0.3});
  const std::vector<Sample> samples{pair_of(1), pair_of(2), pair_of(3)};
  std::vector<LossSum> sums(3);
  Arena arena;
  objective.loss(now, samples, arena, {.per_sample = sums});
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(sums[i].sum, loss_of(objective, now, std::span(samples).subspan(i, 1)).sum);
}

TEST(PreferenceObjective, MeasuresTheSameInBatchesOfAnySize) {
  Model before = small_model(1), now = small_model(2);
  const auto objective =
      std::make_shared<PreferenceObjective>(before.network(), PreferenceOptions{.beta = 0.3});
  const PreferenceDataset data = pairs(7);
  std::vector<Metrics::Values> found;
  for (const std::int64_t size : {1, 3, 7}) {
    TrainingArguments a = test::arguments();
    a.per_device_eval_batch_size = size;
    found.push_back(Trainer(now, a, objective).evaluate(data).metrics);
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

TEST(PreferenceObjective, TeachesWhichAnswerIsBetter) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const PreferenceDataset train = pairs(30), validation = pairs(10, 100);
  TrainingArguments a = test::arguments();
  a.learning_rate = 3e-3;
  a.num_train_epochs = 4;
  for (const bool adapter : {false, true})
    for (const auto loss : {PreferenceLoss::kDpo, PreferenceLoss::kSimpo}) {
      Model model = small_model();
      const auto objective = std::make_shared<PreferenceObjective>(
          model.network(), PreferenceOptions{.loss = loss, .beta = loss == PreferenceLoss::kDpo ? 0.5 : 2.0});
      TrainingArguments how = a;
      if (adapter) {
        how.lora = LoraConfig{.r = 8, .target_modules = {"all-linear"}};
        how.learning_rate = 3e-2;
      }
      Trainer trainer(model, how, objective);
      const double before = trainer.evaluate(validation).eval_loss;
      trainer.fit(train);
      const EvaluationLog after = trainer.evaluate(validation);
      EXPECT_LT(after.eval_loss, before / 2) << adapter;
      EXPECT_THAT(after.metrics[0], Pair("rewards/accuracies", testing::Ge(0.9)));
      EXPECT_THAT(after.metrics[1], Pair("rewards/margins", testing::Gt(0.0)));
    }
}

TEST(PreferenceObjective, RefusesWhatCannotBe) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto wrong = [&](PreferenceOptions options, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { PreferenceObjective(network, options); }, parts);
  };
  wrong({.beta = 0}, {"beta is 0"});
  wrong({.loss = PreferenceLoss::kSimpo, .gamma = -1}, {"gamma is -1"});
  wrong({.gamma = 1}, {"gamma is 1", "SimPO"});
  // Samples of a data set for another objective.
  const Sample text{tokens(5), tokens(5)};
  expect_error<ArgumentError>(
      [&] {
        loss_of(PreferenceObjective(network), network, {&text, 1});
      },
      {"0 ids and 0 labels", "another objective"});
}

TEST(PreferenceObjective, CountsWhatIsFedOfBothAnswers) {
  Model model = small_model();
  TrainingArguments a = test::arguments();
  a.per_device_train_batch_size = 1;
  a.gradient_accumulation_steps = 1;
  a.max_steps = 1;
  std::int64_t fed = 0;
  Trainer(model, a, std::make_shared<PreferenceObjective>(model.network()))
      .fit(pairs(1), nullptr, {.on_step = [&](const TrainingLog& log) { fed = log.tokens; }});
  EXPECT_EQ(fed, 5 + 6);  // of 6 and 7 ids, each without its last
}

TEST(PreferenceDataset, ReadsPairs) {
  const test::TempDir dir;
  ByteBpeModel model = test::small_bpe_model();
  const ByteBpe tokenizer(std::move(model));
  test::write_file(dir / "pairs.jsonl",
                   "\xEF\xBB\xBF\r\n"
                   "{\"prompt\": \"a \", \"chosen\": \"yes\", \"rejected\": \"no\"}\n\n"
                   "{\"prompt\": \"much too long\", \"chosen\": \"y\", \"rejected\": \"n\"}\n");
  const auto data = PreferenceDataset::from_file(dir / "pairs.jsonl", tokenizer, {.max_length = 8});
  ASSERT_EQ(data.size(), 1);
  EXPECT_EQ(data.dropped(), 1);
  const Sample pair = data.at(0);
  EXPECT_EQ(tokenizer.decode(pair.ids), "a yes");
  EXPECT_EQ(tokenizer.decode(pair.rejected_ids), "a no");
  EXPECT_EQ(pair.labels[1], kIgnoredLabel);
  EXPECT_EQ(pair.labels[2], pair.ids[2]);
  EXPECT_EQ(data.length(0), 9);
  const auto bad = [&](std::string_view line, std::initializer_list<std::string_view> parts) {
    test::write_file(dir / "bad.jsonl", line);
    expect_error<FormatError>([&] { PreferenceDataset::from_file(dir / "bad.jsonl", tokenizer); }, parts);
  };
  bad("{\"prompt\": \"a\", \"chosen\": \"b\"}\n", {"bad.jsonl:1", "rejected"});
  bad("{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"c\"}\n", {"chosen", "empty"});
  bad("nonsense\n", {"bad.jsonl:1"});
  bad("\n", {"no usable pair"});
}

TEST(PreferenceDataset, IsCutAndToldApart) {
  const PreferenceDataset all = pairs(10);
  const auto [train, validation] = all.split(0.3);
  EXPECT_EQ(train.size(), 7);
  EXPECT_EQ(validation.at(0).ids, pair_of(7).ids);
  EXPECT_NE(train.fingerprint(), all.fingerprint());
  EXPECT_EQ(pairs(10).fingerprint(), all.fingerprint());
  expect_error<ArgumentError>([&] { all.split(0.01); }, {"without any"});
  expect_error<ArgumentError>([&] { all.at(10); }, {"sample 10"});
  expect_error<ArgumentError>([] { PreferenceDataset({}); }, {"no pairs"});
  Sample short_one = pair_of(1);
  short_one.rejected_labels.pop_back();
  expect_error<ArgumentError>([&] { PreferenceDataset({short_one}); }, {"pair 0"});
  Sample unlabelled = pair_of(1);
  std::ranges::fill(unlabelled.labels, kIgnoredLabel);
  expect_error<ArgumentError>([&] { PreferenceDataset({unlabelled}); }, {"no label"});
}

std::vector<Sample> sequences() {
  std::vector<Sample> all;
  for (const std::size_t n : {5u, 9u}) {
    Sample sample{tokens(n, n), tokens(n, n)};
    sample.labels[2] = kIgnoredLabel;
    all.push_back(std::move(sample));
  }
  return all;
}

TEST(DistillationObjective, IsTheLanguageModelsLossWithoutATeacher) {
  const Gpt2 teacher = random_network(tiny_config(), 1), network = random_network(tiny_config(), 2);
  const auto samples = sequences();
  const LossSum found = loss_of(DistillationObjective(teacher, {.alpha = 0}), network, samples),
                expected = loss_of(LanguageModelObjective(), network, samples);
  EXPECT_EQ(found.count, 10);
  EXPECT_EQ(found.count, expected.count);
  EXPECT_NEAR(found.sum, expected.sum, 1e-5);  // one in double, one by float32 exponentials
}

TEST(DistillationObjective, IsNothingForATeacherOfTheSameMind) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto samples = sequences();
  EXPECT_NEAR(loss_of(DistillationObjective(network, {.alpha = 1, .temperature = 3}), network, samples).sum,
              0, 1e-12);
}

TEST(DistillationObjective, HasTheGradientsOfItsLoss) {
  Gpt2 teacher = random_network(tiny_config(), 1), network = random_network(tiny_config(), 2);
  quantize(teacher, {});
  const auto samples = sequences();
  for (const double alpha : {0.4, 1.0})
    expect_gradients(DistillationObjective(teacher, {.alpha = alpha, .temperature = 1.5}), network, samples);
}

TEST(DistillationObjective, BringsTheStudentToTheTeacher) {
  const Gpt2 teacher = random_network(tiny_config(), 5);
  const TextDataset train = test::text(16 * 10 + 1), validation = test::text(40);
  Gpt2Config smaller = tiny_config();
  smaller.n_layer = 1;
  Model model(random_network(smaller, 1), HfConfig());
  TrainingArguments a = test::arguments();
  a.num_train_epochs = 10;
  Trainer trainer(model, a,
                  std::make_shared<DistillationObjective>(teacher, DistillationOptions{.alpha = 1}));
  const double before = trainer.evaluate(validation).eval_loss;
  trainer.fit(train);
  EXPECT_LT(trainer.evaluate(validation).eval_loss, before / 2);
}

TEST(DistillationObjective, RefusesWhatCannotBe) {
  const Gpt2 teacher = random_network(tiny_config(), 1);
  expect_error<ArgumentError>([&] { DistillationObjective(teacher, {.alpha = 1.5}); }, {"alpha is 1.5"});
  expect_error<ArgumentError>([&] { DistillationObjective(teacher, {.temperature = 0}); },
                              {"temperature is 0"});
  Gpt2Config other = tiny_config();
  other.vocab_size = 98;
  const auto samples = sequences();
  expect_error<ArgumentError>(
      [&] { loss_of(DistillationObjective(teacher), random_network(other, 1), samples); },
      {"vocabulary of 97", "98"});
  const Sample text{.ids = tokens(5), .labels = {}, .targets = {1}};
  expect_error<ArgumentError>(
      [&] {
        loss_of(DistillationObjective(teacher), teacher, {&text, 1});
      },
      {"5 ids and 0 labels", "another objective"});
}

}  // namespace
}  // namespace gpt
