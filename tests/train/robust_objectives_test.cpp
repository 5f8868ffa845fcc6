// R-Drop, adversarial training and contrastive learning: objectives around another one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "gpt/autograd/ops.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/optimizer.h"
#include "gpt/peft/prompt_tuning.h"
#include "gpt/train/adversarial.h"
#include "gpt/train/contrastive.h"
#include "gpt/train/preference.h"
#include "gpt/train/r_drop.h"
#include "gradient_check.h"
#include "small_classifier.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::class_arguments;
using test::HalvesOfTokens;
using test::message_of;
using test::objective_of;
using test::same_classifiers;
using test::small_classifier;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr DropoutSeed kSeed{3, std::uint64_t{1} << 32};

std::vector<Sample> few_samples(std::int64_t count = 6) { return test::samples_of(HalvesOfTokens(count, 1)); }

std::vector<Sample> few_texts() {
  std::vector<Sample> samples;
  for (const std::size_t n : {7u, 4u, 9u}) samples.push_back({test::tokens(n, n), test::tokens(n, n)});
  samples[2].labels[3] = kIgnoredLabel;
  return samples;
}

std::shared_ptr<Objective> adversarial(std::shared_ptr<Objective> inner, AdversarialMethod method,
                                       double epsilon = 0.1) {
  return std::make_shared<AdversarialObjective>(
      std::move(inner),
      AdversarialOptions{.method = method, .epsilon = epsilon, .step_size = 0.08, .steps = 2});
}

/// Everything that wraps an objective of one label each.
std::vector<std::shared_ptr<Objective>> all_around(Classifier& classifier) {
  return {std::make_shared<RDropObjective>(objective_of(classifier), 1.0),
          std::make_shared<ContrastiveObjective>(objective_of(classifier), ContrastiveOptions{.weight = 0.3}),
          adversarial(objective_of(classifier), AdversarialMethod::kFgm),
          adversarial(objective_of(classifier), AdversarialMethod::kPgd),
          adversarial(objective_of(classifier), AdversarialMethod::kFreeLb),
          adversarial(std::make_shared<RDropObjective>(objective_of(classifier)), AdversarialMethod::kFgm)};
}

TEST(EmbeddingOffset, IsAddedAndGetsTheGradientOfTheLoss) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  const LanguageModelObjective objective;
  const std::vector<Sample> texts = few_texts();
  EmbeddingOffset at;
  Tape tape;
  Arena arena;
  objective.loss(network, texts, arena, {.tape = &tape, .embedding_offset = &at});
  tape.backward();
  ASSERT_EQ(at.gradient.shape(), Shape({17, 16}));
  EXPECT_THAT(at.begin, ElementsAreArray({0, 6, 9, 17}));
  // Along the gradient the loss rises by its norm; see gradient_check.h.
  const double norm = std::sqrt(ops::sum_of_squares(at.gradient)), step = 5e-3;
  const auto loss_at = [&](double length) {
    EmbeddingOffset there;
    there.offset = at.gradient.clone();
    for (float& x : there.offset.span<float>()) x *= static_cast<float>(length / norm);
    arena.reset();
    return objective.loss(network, texts, arena, {.embedding_offset = &there}).sum;
  };
  EXPECT_NEAR((loss_at(step) - loss_at(-step)) / (2 * step), norm, 1e-2 * norm);
}

TEST(EmbeddingOffset, LeavesTheGradientsOfWeightsAsTheyAre) {
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  LanguageModelObjective objective;
  Parameters parameters(network);
  const auto plain = test::run_on_tape(network, objective, few_texts(), parameters);
  parameters.zero_gradients();
  EmbeddingOffset at;
  const auto with = test::run_on_tape(network, objective, few_texts(), parameters, {.embedding_offset = &at});
  EXPECT_EQ(plain.loss, with.loss);
  EXPECT_THAT(with.gradients, ElementsAreArray(plain.gradients));
  // With other weights learned than the embeddings, too.
  at.offset = Tensor::zeros({5, 16});
  Arena arena;
  EXPECT_THAT(message_of<ArgumentError>(
                  [&] { objective.loss(network, few_texts(), arena, {.embedding_offset = &at}); }),
              HasSubstr("offsets of embeddings are float32 [5, 16], expected float32 [17, 16]"));
}

TEST(RDrop, HasTheGradientOfItsLoss) {
  for (const ProblemType type :
       {ProblemType::kSingleLabel, ProblemType::kMultiLabel, ProblemType::kRegression}) {
    Classifier classifier = small_classifier(type);
    std::vector<Sample> samples = few_samples(3);
    if (type != ProblemType::kSingleLabel)
      for (Sample& sample : samples) sample.targets = {1, 0};
    RDropObjective objective(objective_of(classifier), 2.0);
    test::expect_gradient_of_loss(classifier.model().network(), objective, samples, {.dropout = kSeed});
  }
  Model model = test::small_model();
  RDropObjective objective(std::make_shared<LanguageModelObjective>(), 2.0);
  test::expect_gradient_of_loss(model.network(), objective, few_texts(), {.dropout = kSeed});
}

TEST(RDrop, AddsTheDivergenceOfTwoPasses) {
  Model model = test::small_model();
  const std::vector<Sample> texts = few_texts();
  std::vector<Sample> twice = texts;
  twice.insert(twice.end(), texts.begin(), texts.end());
  const auto loss_of = [&](const Objective& objective, std::span<const Sample> samples,
                           std::span<LossSum> per_sample = {}) {
    Arena arena;
    Tape tape;
    return objective.loss(model.network(), samples, arena,
                          {.tape = &tape, .dropout = kSeed, .per_sample = per_sample});
  };
  const LanguageModelObjective plain;
  const auto inner = std::make_shared<LanguageModelObjective>();
  // Of alpha = 0 the mean of both passes is left.
  std::vector<LossSum> sums(3);
  const LossSum none = loss_of(RDropObjective(inner, 0), texts, sums);
  EXPECT_EQ(none.count, 16);
  EXPECT_EQ(sums[0].sum + sums[1].sum + sums[2].sum, none.sum);
  EXPECT_NEAR(none.sum, loss_of(plain, twice).sum / 2, 1e-12 * none.sum);

  // What the two passes say of each row, from their logits.
  Arena arena;
  std::vector<Chunk> chunks;
  for (const Sample& s : twice) chunks.push_back({std::span(s.ids).first(s.ids.size() - 1)});
  const ForwardOutput out =
      model.network().forward(chunks, arena, {.logits = LogitsRows::kAll, .dropout = kSeed});
  const std::int64_t v = out.logits.dim(1);
  double apart = 0;
  for (std::int64_t r = 0; r < 17; ++r) {
    if (r == 6 + 3 + 2) continue;  // which has no label
    const auto log_p = [&](std::int64_t row) {
      const float* z = out.logits.data<float>() + row * v;
      double sum = 0;
      for (std::int64_t c = 0; c < v; ++c) sum += math::exp(static_cast<double>(z[c]));
      std::vector<double> p;
      for (std::int64_t c = 0; c < v; ++c) p.push_back(static_cast<double>(z[c]) - math::log(sum));
      return p;
    };
    const std::vector<double> p = log_p(r), q = log_p(r + 17);
    for (std::size_t c = 0; c < p.size(); ++c)
      apart += (math::exp(p[c]) - math::exp(q[c])) * (p[c] - q[c]) / 2;
  }
  EXPECT_GT(apart, 0.1);
  // Both from the same float32 logits, in double.
  EXPECT_NEAR(loss_of(RDropObjective(inner, 3), texts).sum - none.sum, 3 * apart, 1e-9 * none.sum);
}

TEST(RDrop, IsTheInnerOneInAnEvaluation) {
  Classifier classifier = small_classifier();
  const HalvesOfTokens data(10, 1);
  const TrainingArguments a = class_arguments();
  const double inner = Trainer(classifier.model(), a, objective_of(classifier)).evaluate(data).eval_loss;
  for (const auto& objective : all_around(classifier)) {
    const EvaluationLog log = Trainer(classifier.model(), a, objective).evaluate(data);
    EXPECT_EQ(log.eval_loss, inner) << objective->describe();
    EXPECT_EQ(log.metrics.size(), 2u);
    EXPECT_THAT(objective->describe(), HasSubstr("single_label_classification of 2, "));
  }
}

TEST(Contrastive, HasTheGradientOfItsLoss) {
  Classifier classifier = small_classifier();
  for (const double weight : {0.4, 1.0}) {
    ContrastiveObjective objective(objective_of(classifier), {.weight = weight, .temperature = 0.5});
    test::expect_gradient_of_loss(classifier.model().network(), objective, few_samples(5),
                                  {.dropout = kSeed});
  }
}

TEST(Contrastive, IsTheFormulaOfThePaper) {
  Classifier classifier = small_classifier();
  const std::vector<Sample> samples = few_samples(5);  // of classes 0 1 0 1 0
  Arena arena;
  const LossRows rows = objective_of(classifier)->rows(classifier.model().network(), samples, arena, {});
  std::vector<std::vector<double>> z;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const float* h = rows.hidden.data<float>() + (rows.begin[i + 1] - 1) * 16;
    double squares = 0;
    for (int c = 0; c < 16; ++c) squares += static_cast<double>(h[c]) * static_cast<double>(h[c]);
    z.emplace_back();
    for (int c = 0; c < 16; ++c) z.back().push_back(static_cast<double>(h[c]) / std::sqrt(squares));
  }
  const auto similar = [&](std::size_t i, std::size_t k) {
    double sum = 0;
    for (std::size_t c = 0; c < 16; ++c) sum += z[i][c] * z[k][c];
    return math::exp(sum / 0.3);
  };
  double expected = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    double all = 0;
    for (std::size_t k = 0; k < 5; ++k) all += k == i ? 0 : similar(i, k);
    for (std::size_t p = i % 2; p < 5; p += 2)
      if (p != i) expected -= math::log(similar(i, p) / all) / (i % 2 == 0 ? 2 : 1);
  }
  Tape tape;
  const ContrastiveObjective objective(objective_of(classifier), {.weight = 1});
  const LossSum sum = objective.loss(classifier.model().network(), samples, arena, {.tape = &tape});
  EXPECT_NEAR(sum.sum, expected, 1e-12 * expected);
  EXPECT_EQ(sum.count, 5);
}

/// Remembers where it was asked, and what it said.
class Recorder final : public WrappedObjective {
 public:
  explicit Recorder(std::shared_ptr<Objective> inner) : WrappedObjective("recorded", std::move(inner)) {}
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override {
    const LossSum sum = inner().loss(network, samples, arena, options);
    const EmbeddingOffset& at = *options.embedding_offset;
    offsets.push_back(at.offset.empty() ? Tensor() : at.offset.clone());
    begin = at.begin;
    losses.push_back(sum.sum);
    return sum;
  }
  double norm(std::size_t pass, std::size_t sequence) const {
    const float* x = offsets[pass].data<float>() + begin[sequence] * 16;
    return std::sqrt(ops::sum_of_squares(
        ConstTensorView(x, {begin[sequence + 1] - begin[sequence], offsets[pass].dim(1)})));
  }

  mutable std::vector<Tensor> offsets;
  mutable std::vector<double> losses;
  mutable std::vector<std::int64_t> begin;
};

struct Attack {
  explicit Attack(AdversarialOptions options, double scale = 0.25)
      : recorder(std::make_shared<Recorder>(objective_of(classifier))) {
    AdversarialObjective objective(recorder, options);
    Gpt2& network = classifier.model().network();
    Parameters parameters(network, {}, DType::f32, [&](const auto& f) { objective.visit(f); });
    result = test::run_on_tape(network, objective, samples, parameters, {.scale = scale, .dropout = kSeed});
    // The same passes, one by one, on one tape.
    parameters.zero_gradients();
    const bool free = options.method == AdversarialMethod::kFreeLb;
    for (std::size_t pass = 0; pass < recorder->offsets.size(); ++pass) {
      const bool last = pass + 1 == recorder->offsets.size();
      if (!free && pass > 0 && !last) continue;  // looks for the delta
      EmbeddingOffset at{.offset = recorder->offsets[pass]};
      const double weight = free ? 1 / static_cast<double>(options.steps) : last ? options.loss_weight : 1;
      const auto one =
          test::run_on_tape(network, *objective_of(classifier), samples, parameters,
                            {.scale = scale * weight, .dropout = kSeed, .embedding_offset = &at});
      loss += weight * one.loss;
      gradients = one.gradients;
    }
  }

  Classifier classifier = small_classifier();
  std::vector<Sample> samples = few_samples(4);
  std::shared_ptr<Recorder> recorder;
  test::LossAndGradients result;
  double loss = 0;
  std::vector<float> gradients;
};

TEST(Fgm, LearnsTheTextAndTheWorstEmbeddingsBesideIt) {
  const Attack attack({.epsilon = 0.25, .loss_weight = 0.5});
  ASSERT_EQ(attack.recorder->offsets.size(), 2u);
  EXPECT_TRUE(attack.recorder->offsets[0].empty());
  // One rounded product each, of about 100 elements.
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(attack.recorder->norm(1, i), 0.25, 1e-6);
  EXPECT_GT(attack.recorder->losses[1], attack.recorder->losses[0]);
  EXPECT_EQ(attack.result.loss, attack.loss);
  EXPECT_THAT(attack.result.gradients, ElementsAreArray(attack.gradients));
}

TEST(Pgd, StepsUphillAndStaysNear) {
  const Attack attack({.method = AdversarialMethod::kPgd, .epsilon = 0.3, .step_size = 0.2, .steps = 3});
  ASSERT_EQ(attack.recorder->offsets.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(attack.recorder->norm(1, i), 0.2, 1e-6);
    EXPECT_NEAR(attack.recorder->norm(3, i), 0.3, 1e-6);  // brought back
  }
  EXPECT_GT(attack.recorder->losses[1], attack.recorder->losses[0]);
  EXPECT_GT(attack.recorder->losses[3], attack.recorder->losses[1]);
  EXPECT_EQ(attack.result.loss, attack.loss);
  EXPECT_THAT(attack.result.gradients, ElementsAreArray(attack.gradients));
}

TEST(FreeLb, LearnsFromEveryStep) {
  const Attack attack({.method = AdversarialMethod::kFreeLb, .epsilon = 0.3, .step_size = 0.2, .steps = 3});
  ASSERT_EQ(attack.recorder->offsets.size(), 3u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_GT(attack.recorder->norm(0, i), 0.1);  // uniform in +-0.3 / sqrt(n): sqrt(1/3) of it
    EXPECT_LT(attack.recorder->norm(0, i), 0.25);
    EXPECT_LE(attack.recorder->norm(2, i), 0.3 + 1e-6);
  }
  EXPECT_GT(attack.recorder->losses[2], attack.recorder->losses[0]);
  // The sum of three products is that of the passes in the same order.
  EXPECT_NEAR(attack.result.loss, attack.loss, 1e-12);
  EXPECT_THAT(attack.result.gradients, ElementsAreArray(attack.gradients));
}

TEST(Adversarial, IsDefinedForLanguageModelsAndPreferences) {
  Model model = test::small_model();
  const test::TempDir directory;
  TrainingArguments a = test::arguments();
  a.num_train_epochs = 1;
  const TextDataset data = test::text(120);
  for (const AdversarialMethod method :
       {AdversarialMethod::kFgm, AdversarialMethod::kPgd, AdversarialMethod::kFreeLb}) {
    Trainer trainer(model, a, adversarial(std::make_shared<LanguageModelObjective>(), method));
    const double before = trainer.evaluate(data).eval_loss;
    trainer.fit(data);
    EXPECT_LT(trainer.evaluate(data).eval_loss, before) << name_of(method);
  }
  Sample pair = few_texts()[0];
  pair.rejected_ids = pair.rejected_labels = test::tokens(5, 8);
  const PreferenceDataset pairs({pair, pair});
  Trainer(model, a,
          adversarial(std::make_shared<PreferenceObjective>(
                          model.network(), PreferenceOptions{.loss = PreferenceLoss::kSimpo, .beta = 2}),
                      AdversarialMethod::kFgm))
      .fit(pairs);
}

// Each of them teaches what carries over to other samples, and a run is the same on any number of threads, and when it is resumed.
TEST(RobustObjectives, LowerTheLossOfOtherSamples) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HalvesOfTokens train(96, 1, 32), validation(60, 2, 32);
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 8;
  Classifier shape = small_classifier();
  for (std::size_t i = 0; i < all_around(shape).size(); ++i) {
    Classifier classifier = small_classifier();
    const auto objective = all_around(classifier)[i];
    Trainer trainer(classifier.model(), a, objective);
    const double before = trainer.evaluate(validation).eval_loss;
    EXPECT_LT(*trainer.fit(train, &validation).best_eval_loss, 0.9 * before) << objective->describe();
  }
}

TEST(RobustObjectives, GiveTheSameBitsOnAnyNumberOfThreadsAndResumed) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HalvesOfTokens train(24, 1);
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 2;
  Classifier shape = small_classifier();
  for (std::size_t i = 0; i < all_around(shape).size(); ++i) {
    const auto trained = [&](int threads) {
      set_num_threads(threads);
      Classifier classifier = small_classifier();
      Trainer(classifier.model(), a, all_around(classifier)[i]).fit(train);
      set_num_threads(0);
      return classifier;
    };
    const Classifier whole = trained(1);
    EXPECT_TRUE(same_classifiers(whole, trained(2))) << i;
    const test::TempDir directory;
    TrainingArguments parts = a;
    parts.output_dir = directory / "run";
    parts.save_steps = 4;
    Classifier classifier = small_classifier();
    std::stop_source stop;
    EXPECT_THROW(
        Trainer(classifier.model(), parts, all_around(classifier)[i])
            .fit(train, nullptr, {.on_save = [&](const auto&) { stop.request_stop(); }}, stop.get_token()),
        CancelledError);
    parts.resume_from_checkpoint = true;
    Classifier second = small_classifier();
    Trainer(second.model(), parts, all_around(second)[i]).fit(train);
    EXPECT_TRUE(same_classifiers(whole, second)) << i;
  }
}

TEST(RobustObjectives, KeepWhatIsNotLearned) {
  const HalvesOfTokens train(16, 1);
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 1;
  a.learns = [](std::string_view name) { return name == "h.1.mlp.c_fc.bias"; };
  Classifier shape = small_classifier();
  const auto before = test::weights(shape.model());
  for (std::size_t i = 0; i < all_around(shape).size(); ++i) {
    Classifier classifier = small_classifier();
    Trainer(classifier.model(), a, all_around(classifier)[i]).fit(train);
    for (const auto& [name, tensor] : test::weights(classifier.model()))
      EXPECT_EQ(test::same_bits(tensor, before.at(name)), name != "h.1.mlp.c_fc.bias") << i << name;
  }
}

TEST(RobustObjectives, RefuseOptionsOutOfRange) {
  Classifier classifier = small_classifier();
  const auto inner = objective_of(classifier);
  const auto refused = [](const auto& make, std::string_view message) {
    EXPECT_EQ(message_of<ArgumentError>(make), message);
  };
  refused([&] { RDropObjective(inner, -1); }, "[r_drop] alpha is -1, expected 0 or more");
  refused([&] { RDropObjective(nullptr, 1); }, "[objective] there is none to be around: r_drop, alpha 1");
  refused([&] { ContrastiveObjective(inner, {.weight = 1.5}); },
          "[contrastive] weight is 1.5, expected 0 to 1");
  refused([&] { ContrastiveObjective(inner, {.temperature = 0}); },
          "[contrastive] temperature is 0, expected more than 0");
  refused([&] { AdversarialObjective(inner, {.epsilon = 0}); },
          "[adversarial] epsilon is 0, expected more than 0");
  refused([&] { AdversarialObjective(inner, {.step_size = -1}); },
          "[adversarial] step_size is -1, expected more than 0");
  refused([&] { AdversarialObjective(inner, {.steps = 0}); }, "[adversarial] steps is 0, expected 1 or more");
  refused([&] { AdversarialObjective(inner, {.loss_weight = -1}); },
          "[adversarial] loss_weight is -1, expected 0 or more");
  Classifier numbers = small_classifier(ProblemType::kRegression);
  std::vector<Sample> samples = few_samples(2);
  for (Sample& sample : samples) sample.targets = {1, 2};
  Arena arena;
  Tape tape;
  refused(
      [&] {
        ContrastiveObjective(objective_of(numbers))
            .loss(numbers.model().network(), samples, arena, {.tape = &tape});
      },
      "[contrastive] the objective is of type regression, expected single_label_classification");
}

}  // namespace
}  // namespace gpt
