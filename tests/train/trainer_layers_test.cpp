// Layers that learn at rates of their own, or later than others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gpt/peft/lora.h"
#include "gpt/train/adamw.h"
#include "gpt/train/parameters.h"
#include "gpt/train/trainer.h"
#include "small_classifier.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using test::objective_of;
using test::small_classifier;
using test::small_model;
using test::weights;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

TrainingArguments layer_arguments() {
  TrainingArguments a;
  a.learning_rate = 1e-3;
  a.lr_scheduler_type = LrScheduler::kConstant;
  a.per_device_train_batch_size = 4;
  a.logging_steps = 100;
  return a;
}

/// "h.0", "wte", "ln_f": what the names of changed parameters begin with.
std::set<std::string> changed(const std::map<std::string, Tensor>& before,
                              const std::map<std::string, Tensor>& after) {
  std::set<std::string> parts;
  for (const auto& [name, tensor] : before)
    if (!test::same_bits(tensor, after.at(name)))
      parts.insert(name.substr(0, name.starts_with("h.") ? 3 : name.find('.')));
  return parts;
}

TEST(GradualUnfreezing, WakesOneBlockAfterAnotherFromTheTop) {
  const test::HalvesOfTokens data(8, 1);
  TrainingArguments a = layer_arguments();
  a.max_steps = 8;
  a.unfreeze_steps = 2;
  a.weight_decay = 0.1;  // which frozen weights have none of
  Classifier classifier = small_classifier();
  const auto before = weights(classifier.model());
  std::vector<std::set<std::string>> parts;
  Trainer(classifier.model(), a, objective_of(classifier))
      .fit(data, nullptr, {.on_step = [&](const TrainingLog&) {
             parts.push_back(changed(before, weights(classifier.model())));
           }});
  EXPECT_THAT(parts[0], ElementsAreArray({"ln_f"}));
  EXPECT_EQ(parts[1], parts[0]);
  EXPECT_THAT(parts[2], ElementsAreArray({"h.1", "ln_f"}));
  EXPECT_EQ(parts[3], parts[2]);
  EXPECT_THAT(parts[4], ElementsAreArray({"h.0", "h.1", "ln_f"}));
  EXPECT_EQ(parts[5], parts[4]);
  EXPECT_THAT(parts[6], ElementsAreArray({"h.0", "h.1", "ln_f", "wpe", "wte"}));
}

TEST(GradualUnfreezing, LooksAtNoMoreEpochsThanTheRunHas) {
  TrainingArguments a = layer_arguments();
  a.max_steps = 1;
  a.unfreeze_epochs = std::numeric_limits<std::int64_t>::max();  // as many would never end
  Classifier classifier = small_classifier();
  const auto before = weights(classifier.model());
  Trainer(classifier.model(), a, objective_of(classifier)).fit(test::HalvesOfTokens(8, 1));
  EXPECT_THAT(changed(before, weights(classifier.model())), ElementsAreArray({"ln_f"}));
}

TEST(GradualUnfreezing, BeginsWithTheTopBlockWithoutAHeadOfItsOwn) {
  const TextDataset data = test::text(16 * 8 + 1);
  TrainingArguments a = layer_arguments();
  a.unfreeze_epochs = 1;  // of 2 updates
  a.num_train_epochs = 3;
  Model model = small_model();
  const auto before = weights(model);
  std::vector<std::set<std::string>> parts;
  Trainer(model, a).fit(data, nullptr, {.on_step = [&](const TrainingLog&) {
                          parts.push_back(changed(before, weights(model)));
                        }});
  ASSERT_EQ(parts.size(), 6u);
  EXPECT_THAT(parts[1], ElementsAreArray({"h.1", "ln_f"}));
  EXPECT_THAT(parts[3], ElementsAreArray({"h.0", "h.1", "ln_f"}));
  EXPECT_THAT(parts[5], ElementsAreArray({"h.0", "h.1", "ln_f", "wpe", "wte"}));

  a.unfreeze_epochs = 0;
  a.unfreeze_steps = 2;
  Model other = small_model();
  Trainer(other, a).fit(data);
  EXPECT_TRUE(test::same(weights(model), weights(other)));
}

/// The largest step of any element in the first update: AdamW's is the rate, whatever the gradient, but for epsilon.
std::map<std::string, double> first_steps(const TrainingArguments& arguments) {
  const TextDataset data = test::text(16 * 4 + 1);
  TrainingArguments a = arguments;
  a.max_steps = 1;
  Model model = small_model();
  const auto before = weights(model);
  Trainer(model, a).fit(data);
  std::map<std::string, double> steps;
  for (const auto& [name, tensor] : weights(model))
    for (std::size_t i = 0; i < tensor.span<float>().size(); ++i)
      steps[name] = std::max(steps[name], std::abs(static_cast<double>(tensor.span<float>()[i]) -
                                                   static_cast<double>(before.at(name).span<float>()[i])));
  return steps;
}

TEST(LayerwiseLrDecay, MultipliesTheRateOfEveryLayerFurtherDown) {
  TrainingArguments a = layer_arguments();
  a.layerwise_lr_decay = 0.5;
  a.learning_rate_factor_of = [](std::string_view name) { return name == "h.1.ln_1.weight" ? 0.25 : 1; };
  for (const auto& [name, step] : first_steps(a)) {
    const double factor = name.starts_with("ln_f")    ? 1
                          : name == "h.1.ln_1.weight" ? 0.125
                          : name.starts_with("h.1.")  ? 0.5
                          : name.starts_with("h.0.")  ? 0.25
                                                      : 0.125;
    // Weights of about 1 are rounded to 6e-8.
    EXPECT_NEAR(step, factor * a.learning_rate, 5e-3 * factor * a.learning_rate) << name;
  }
}

TEST(LayerwiseLrDecay, CountsAdaptersByTheirBlocks) {
  TrainingArguments a = layer_arguments();
  a.max_steps = 1;
  a.layerwise_lr_decay = 0.5;
  Model model = small_model();
  model.network().attach(std::make_shared<LoraAdapter>(model.network(), LoraConfig{.r = 2}, 3));
  Trainer(model, a).fit(test::text(16 * 4 + 1));
  int seen = 0;
  model.network().adapter()->visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    if (name.find("lora_B") == std::string::npos) return;  // which began with zeros
    double most = 0;
    for (const float x : tensor.span<float>()) most = std::max(most, std::abs(static_cast<double>(x)));
    const double rate = a.learning_rate * (name.find(".h.1.") != std::string::npos ? 0.5 : 0.25);
    EXPECT_NEAR(most, rate, 5e-3 * rate) << name;
    ++seen;
  });
  EXPECT_EQ(seen, 2);
}

TEST(LayerwiseLrDecay, LowersTheLossOfOtherSamples) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const test::HalvesOfTokens train(96, 1, 32), validation(60, 2, 32);
  for (const bool unfreezes : {false, true}) {
    Classifier classifier = small_classifier();
    TrainingArguments a = test::class_arguments();
    a.num_train_epochs = 8;
    a.layerwise_lr_decay = 0.9;
    if (unfreezes) a.unfreeze_epochs = 1;
    a.swa_start = 0.75;
    Trainer trainer(classifier.model(), a, objective_of(classifier));
    const double before = trainer.evaluate(validation).eval_loss;
    EXPECT_LT(*trainer.fit(train, &validation).best_eval_loss, 0.9 * before) << unfreezes;
  }
}

TEST(LayerwiseLrDecay, IsPartOfWhatARunIs) {
  const TextDataset data = test::text(16 * 4 + 1);
  const test::TempDir directory;
  TrainingArguments a = layer_arguments();
  a.layerwise_lr_decay = 0.5;
  a.output_dir = directory / "run";
  Model model = small_model();
  Trainer(model, a).fit(data);
  a.resume_from_checkpoint = true;
  a.layerwise_lr_decay = 0.75;
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(model, a).fit(data); }),
              HasSubstr("layerwise_lr_decay is 0.75, but "));
  a.layerwise_lr_decay = 0.5;
  a.learning_rate_factor_of = [](std::string_view) { return 0.5; };
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(model, a).fit(data); }),
              HasSubstr("learning_rate_factor_of"));
}

TEST(TrainerLayers, RefusesWhatDoesNotGoTogether) {
  Model model = small_model();
  const auto refused = [&](const auto& set, std::string_view message) {
    TrainingArguments a = layer_arguments();
    set(a);
    EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(model, a).fit(test::text(40)); }), message);
  };
  refused([](TrainingArguments& a) { a.layerwise_lr_decay = 0; },
          "[trainer] layerwise_lr_decay is 0, expected more than 0, at most 1");
  refused([](TrainingArguments& a) { a.swa_start = 1; },
          "[trainer] swa_start is 1, expected 0 or more, and less than 1");
  refused([](TrainingArguments& a) { a.swa_start = a.ema_decay = 0.5; },
          "[trainer] swa_start and ema_decay are both set, expected one average");
  refused([](TrainingArguments& a) { a.unfreeze_steps = a.unfreeze_epochs = 1; },
          "[trainer] unfreeze_steps and unfreeze_epochs are both set, expected one");
  refused([](TrainingArguments& a) { a.unfreeze_steps = -1; },
          "[trainer] unfreeze_steps is -1, expected 0 or more");
  refused(
      [](TrainingArguments& a) {
        a.unfreeze_epochs = 1;
        a.lora = LoraConfig();
      },
      "[trainer] unfreeze_epochs is set, but lora trains an adapter, and the network stays frozen");
  refused([](TrainingArguments& a) { a.learning_rate_factor_of = [](std::string_view) { return -1.0; }; },
          "[trainer] learning_rate_factor_of wte.weight is -1, expected 0 or more");
  model.network().attach(std::make_shared<LoraAdapter>(model.network(), LoraConfig{.r = 2}, 3));
  refused([](TrainingArguments& a) { a.unfreeze_steps = 1; },
          "[trainer] unfreeze_steps is set, but an adapter is trained, and the network stays frozen");
}

TEST(AdamWParts, BeginsThePartsThatComeLaterAsIfTheyWereNew) {
  Model late = small_model(), fresh = small_model();
  const auto step_of = [](Model& model, std::int64_t before) {
    Parameters parameters(model.network());
    AdamW optimizer(parameters, {.weight_decay = 0.1});
    for (const Parameter& p : parameters.all())
      for (std::int64_t i = 0; i < p.gradient.numel(); ++i) {
        TensorView gradient = p.gradient;
        gradient.data<float>()[i] = static_cast<float>(i % 7) - 3;
      }
    const std::vector<PartOfStep> parts(parameters.all().size(), {.first_step = before});
    for (std::int64_t i = 0; i < before; ++i) {
      const auto kept = weights(model);
      optimizer.step(1e-2, 1, parts);
      EXPECT_TRUE(test::same(kept, weights(model)));
    }
    optimizer.step(1e-2, 1, parts);
    EXPECT_EQ(optimizer.steps(), before + 1);
    EXPECT_THAT(message_of<ArgumentError>([&] { optimizer.step(1e-2, 1, std::span(parts).first(1)); }),
                HasSubstr("1 parts of a step, expected one for each of "));
  };
  step_of(late, 3);
  step_of(fresh, 0);
  EXPECT_TRUE(test::same(weights(late), weights(fresh)));
}

}  // namespace
}  // namespace gpt
