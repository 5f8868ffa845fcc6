// Other objectives than a language model's in the one training loop.
#include "gpt/train/objectives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "gpt/core/parallel.h"
#include "gpt/peft/lora.h"
#include "gpt/train/metrics.h"
#include "small_classifier.h"
#include "small_run.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::class_arguments;
using test::HalvesOfTokens;
using test::message_of;
using test::objective_of;
using test::same_bits;
using test::same_classifiers;
using test::small_classifier;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ClassificationTraining, LearnsWhatTellsTheClassesApart) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Classifier classifier = small_classifier();
  const HalvesOfTokens train(200, 1), validation(60, 2);
  std::vector<EvaluationLog> evaluations;
  Trainer trainer(classifier.model(), class_arguments(), objective_of(classifier));
  EXPECT_LT(trainer.evaluate(validation).metrics[0].second, 0.7);
  const TrainingResult result = trainer.fit(
      train, &validation, {.on_evaluate = [&](const EvaluationLog& log) { evaluations.push_back(log); }});
  ASSERT_EQ(evaluations.size(), 16u);
  EXPECT_THAT(evaluations.back().metrics,
              ElementsAreArray({Pair("accuracy", testing::Gt(0.7)), Pair("macro_f1", testing::Gt(0.7))}));
  EXPECT_TRUE(std::isnan(evaluations.back().perplexity));
  EXPECT_LT(*result.best_eval_loss, 0.5);
  EXPECT_EQ(trainer.evaluate(validation).eval_loss, evaluations.back().eval_loss);
}

TEST(ClassificationTraining, GivesTheSameBitsOnAnyNumberOfThreads) {
  const HalvesOfTokens train(24, 1);
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 1;
  const auto trained = [&](int threads) {
    set_num_threads(threads);
    Classifier classifier = small_classifier();
    Trainer(classifier.model(), a, objective_of(classifier)).fit(train);
    set_num_threads(0);
    return classifier;
  };
  const Classifier one = trained(1);
  EXPECT_TRUE(same_classifiers(one, trained(3)));
  EXPECT_FALSE(same_bits(one.score().values, small_classifier().score().values));
}

TEST(ClassificationTraining, GoesOnFromACheckpointToTheSameBits) {
  const HalvesOfTokens train(32, 1), validation(16, 2);
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 2;
  a.metric_for_best_model = "macro_f1";
  for (const bool adapted : {false, true}) {
    const auto made = [&] {
      Classifier classifier = small_classifier();
      Gpt2& network = classifier.model().network();
      if (adapted) network.attach(std::make_shared<LoraAdapter>(network, LoraConfig{.r = 2}, 3));
      return classifier;
    };
    Classifier whole = made();
    Trainer(whole.model(), a, objective_of(whole)).fit(train, &validation);

    const test::TempDir directory;
    TrainingArguments in_parts = a;
    in_parts.output_dir = directory / "run";
    in_parts.save_steps = 3;
    Classifier first = made();
    std::stop_source stop;
    EXPECT_THROW(Trainer(first.model(), in_parts, objective_of(first))
                     .fit(train, &validation, {.on_save = [&](const auto&) { stop.request_stop(); }},
                          stop.get_token()),
                 CancelledError);
    in_parts.resume_from_checkpoint = true;
    Classifier second = made();
    Trainer(second.model(), in_parts, objective_of(second)).fit(train, &validation);
    EXPECT_TRUE(same_bits(whole.score().values, second.score().values)) << adapted;
    const std::vector<TokenId> text = test::tokens(9);
    EXPECT_TRUE(same_bits(whole.logits({&text, 1}), second.logits({&text, 1}))) << adapted;
    if (!adapted) {
      // A checkpoint is a classifier's.
      const Classifier loaded = Classifier::load(directory / "run" / "checkpoint-8");
      EXPECT_TRUE(same_classifiers(whole, loaded));
    }
  }
}

TEST(ClassificationTraining, IsNotResumedWithAnotherObjective) {
  const HalvesOfTokens train(16, 1);
  const test::TempDir directory;
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 1;
  a.output_dir = directory / "run";
  Classifier classifier = small_classifier();
  Trainer(classifier.model(), a, objective_of(classifier)).fit(train);
  a.resume_from_checkpoint = true;
  EXPECT_THAT(
      message_of<ArgumentError>([&] {
        Trainer(classifier.model(), a, objective_of(classifier, {.class_weights = {1, 2}})).fit(train);
      }),
      HasSubstr("loss is single_label_classification of 2, class_weights 1 2, but "));
}

TEST(ClassificationTraining, LearnsTheHeadAlone) {
  const HalvesOfTokens train(16, 1);
  Classifier classifier = small_classifier();
  const auto before = test::weights(classifier.model());
  const Tensor head = classifier.score().values.clone();
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 1;
  a.learns = [](std::string_view) { return false; };
  Trainer(classifier.model(), a, objective_of(classifier)).fit(train);
  EXPECT_TRUE(test::same(before, test::weights(classifier.model())));
  EXPECT_FALSE(same_bits(head, classifier.score().values));
}

TEST(ClassificationTraining, KeepsWhatIsNotNamedAsItIs) {
  const HalvesOfTokens train(16, 1);
  Classifier classifier = small_classifier();
  const auto before = test::weights(classifier.model());
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 1;
  a.learns = [](std::string_view name) { return name.ends_with("bias"); };
  Trainer(classifier.model(), a, objective_of(classifier)).fit(train);
  for (const auto& [name, tensor] : test::weights(classifier.model()))
    EXPECT_EQ(same_bits(tensor, before.at(name)), !name.ends_with("bias")) << name;
}

TEST(ClassificationTraining, BringsBackTheBestByAMetric) {
  const HalvesOfTokens train(40, 1), validation(30, 2);
  const test::TempDir directory;
  TrainingArguments a = class_arguments();
  a.output_dir = directory / "run";
  a.num_train_epochs = 6;
  a.learning_rate = 2e-2;
  a.load_best_model_at_end = true;
  a.metric_for_best_model = "accuracy";
  Classifier classifier = small_classifier();
  std::vector<EvaluationLog> evaluations;
  const TrainingResult result =
      Trainer(classifier.model(), a, objective_of(classifier))
          .fit(train, &validation,
               {.on_evaluate = [&](const EvaluationLog& log) { evaluations.push_back(log); }});
  double best = 0;
  for (const EvaluationLog& log : evaluations) best = std::max(best, log.metrics[0].second);
  EXPECT_EQ(*result.best_metric, best);
  EXPECT_EQ(Trainer(classifier.model(), a, objective_of(classifier)).evaluate(validation).metrics[0].second,
            best);
  a.metric_for_best_model = "f1";
  a.output_dir = directory / "other";
  EXPECT_THAT(message_of<ArgumentError>(
                  [&] { Trainer(classifier.model(), a, objective_of(classifier)).fit(train, &validation); }),
              HasSubstr("metric_for_best_model is f1, expected one of loss, accuracy, macro_f1"));
}

TEST(ClassificationTraining, RecordsItsMetrics) {
  const test::TempDir directory;
  {
    MetricsFile file(directory / "metrics.jsonl");
    file.add(EvaluationLog{
        .step = 3, .epoch = 1, .eval_loss = 0.5, .best = true, .metrics = {{"accuracy", 0.75}}});
    file.add(EvaluationLog{.step = 6, .epoch = 2, .eval_loss = 0.25, .metrics = {{"accuracy", 0.5}}});
  }
  EXPECT_EQ(test::read_file(directory / "metrics.jsonl"),
            "{\"step\": 3, \"epoch\": 1, \"eval_loss\": 0.5, \"eval_accuracy\": 0.75, \"best\": 1}\n"
            "{\"step\": 6, \"epoch\": 2, \"eval_loss\": 0.25, \"eval_accuracy\": 0.5, \"best\": 0}\n");
  const TrainingHistory history = MetricsFile::read(directory / "metrics.jsonl");
  ASSERT_EQ(history.evaluations.size(), 2u);
  EXPECT_TRUE(history.evaluations[0].best);
  EXPECT_FALSE(history.evaluations[1].best);
  EXPECT_THAT(history.evaluations[1].metrics, ElementsAreArray({Pair("accuracy", 0.5)}));
}

TEST(ClassificationObjective, RefusesOptionsThatItsProblemDoesNotTake) {
  Classifier single = small_classifier();
  Classifier numbers(single.model(), {"y"}, ProblemType::kRegression);
  EXPECT_THAT(message_of<ArgumentError>([&] { objective_of(single, {.class_weights = {1}}); }),
              HasSubstr("1 class_weights, expected one for each of 2 labels"));
  EXPECT_THAT(message_of<ArgumentError>([&] {
                objective_of(single, {.class_weights = {1, -1}});
              }),
              HasSubstr("is -1, expected 0 or more"));
  EXPECT_THAT(message_of<ArgumentError>([&] { objective_of(numbers, {.class_weights = {1}}); }),
              HasSubstr("no classes"));
  EXPECT_THAT(message_of<ArgumentError>([&] { objective_of(numbers, {.label_smoothing_factor = 0.1}); }),
              HasSubstr("single_label_classification alone"));
  TrainingArguments a = class_arguments();
  a.label_smoothing_factor = 0.1;
  EXPECT_THAT(message_of<ArgumentError>([&] { Trainer(single.model(), a, objective_of(single)); }),
              HasSubstr("label_smoothing_factor is 0.1"));
}

TEST(BalancedWeights, MakeClassesCountAlike) {
  const std::int64_t counts[] = {30, 10, 0};
  EXPECT_THAT(balanced_weights(counts), ElementsAreArray({40.0 / 90, 40.0 / 30, 1.0}));
}

/// A user's own: a number for each text that shall be its length, from a head of its own on the first token's hidden state.
class LengthObjective final : public Objective {
 public:
  explicit LengthObjective(std::int64_t features) : head_(Tensor::zeros({features})) {}

  std::int64_t terms(const Sample&) const override { return 1; }
  void visit(const nn::Adapter::Visitor& f) override { f("length.head", head_, head_.shape()); }
  std::string describe() const override { return "length"; }
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override {
    std::vector<Chunk> chunks;
    for (const Sample& s : samples) chunks.push_back({s.ids});
    const TensorView hidden = network
                                  .forward(chunks, arena,
                                           {.logits = LogitsRows::kNone,
                                            .final_hidden = true,
                                            .dropout = options.dropout,
                                            .tape = options.tape})
                                  .final_hidden;
    const std::int64_t d = hidden.dim(1);
    const TensorView dhidden = arena.take(hidden.shape());
    std::memset(dhidden.raw(), 0, dhidden.nbytes());
    const float* w = head_.data<float>();
    LossSum total;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const std::int64_t last = row + static_cast<std::int64_t>(samples[i].ids.size()) - 1;
      const float* h = hidden.data<float>() + last * d;
      double error = -static_cast<double>(samples[i].ids.size());
      for (std::int64_t c = 0; c < d; ++c) error += static_cast<double>(w[c]) * static_cast<double>(h[c]);
      if (!options.per_sample.empty()) options.per_sample[i] = {error * error, 1};
      total.sum += error * error;
      ++total.count;
      if (options.tape != nullptr) {
        const auto slope = static_cast<float>(2 * error * options.scale);
        const TensorView dw = options.tape->gradient_of(head_);
        for (std::int64_t c = 0; c < d; ++c) {
          dhidden.data<float>()[last * d + c] = slope * w[c];
          dw.data<float>()[c] += slope * h[c];
        }
      }
      row = last + 1;
    }
    if (options.tape != nullptr) options.tape->seed(hidden, dhidden);
    return total;
  }

 private:
  Tensor head_;
};

TEST(Objective, OfAUserTrainsItsOwnHeadWithTheNetwork) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HalvesOfTokens train(60, 1), validation(30, 2);
  Model model = test::small_model();
  TrainingArguments a = class_arguments();
  a.learning_rate = 1e-2;
  Trainer trainer(model, a, std::make_shared<LengthObjective>(model.config().n_embd));
  const double before = trainer.evaluate(validation).eval_loss;
  const TrainingResult result = trainer.fit(train, &validation);
  EXPECT_LT(*result.best_eval_loss, 0.2 * before);
  EXPECT_EQ(message_of<ArgumentError>([&] { Trainer(model, a, std::shared_ptr<Objective>()); }),
            "[trainer] there is no objective");
}

/// One that says it measures something, and then has nothing to measure.
class UnmeasuredObjective final : public Objective {
 public:
  std::int64_t terms(const Sample&) const override { return 1; }
  std::string describe() const override { return "unmeasured"; }
  LossSum loss(const Gpt2&, std::span<const Sample> samples, Arena&,
               const ObjectiveOptions& options) const override {
    for (std::size_t i = 0; i < options.per_sample.size(); ++i) options.per_sample[i] = {1, 1};
    if (options.outputs != nullptr) options.outputs->resize(samples.size() - 1);
    return {static_cast<double>(samples.size()), std::ssize(samples)};
  }
  std::unique_ptr<Metrics> metrics() const override {
    struct Count final : Metrics {
      void add(const Sample&, std::span<const float>) override {}
      Values values() const override { return {}; }
    };
    return std::make_unique<Count>();
  }
};

TEST(Objective, WithMetricsGivesAnOutputForEachSample) {
  Model model = test::small_model();
  TrainingArguments a = class_arguments();
  a.per_device_eval_batch_size = 4;
  const Trainer trainer(model, a, std::make_shared<UnmeasuredObjective>());
  EXPECT_EQ(message_of<ArgumentError>([&] { trainer.evaluate(HalvesOfTokens(8, 1)); }),
            "[trainer] the objective has metrics, but 3 outputs of 4 samples (ObjectiveOptions::outputs)");
}

}  // namespace
}  // namespace gpt
