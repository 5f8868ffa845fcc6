// What classifiers give together: pseudo-labels, means of probabilities, means of weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "gpt/core/math.h"
#include "gpt/evaluate/classification.h"
#include "gpt/evaluate/ensemble.h"
#include "gpt/models/average.h"
#include "gpt/models/prune.h"
#include "gpt/peft/lora.h"
#include "gpt/train/classification_dataset.h"
#include "gpt/train/pseudo_labels.h"
#include "small_classifier.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::class_arguments;
using test::HalvesOfTokens;
using test::message_of;
using test::objective_of;
using test::small_classifier;
using ::testing::DoubleNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

std::vector<std::vector<TokenId>> sequences_of(const Dataset& data) {
  std::vector<std::vector<TokenId>> all;
  for (const Sample& sample : test::samples_of(data)) all.push_back(sample.ids);
  return all;
}

Classifier trained_on(std::int64_t samples, std::uint64_t seed, std::uint64_t order) {
  Classifier classifier = small_classifier();
  TrainingArguments a = class_arguments();
  a.num_train_epochs = 8;
  a.seed = order;
  Trainer(classifier.model(), a, objective_of(classifier)).fit(HalvesOfTokens(samples, seed, 32));
  return classifier;
}

double loss_of(ProblemType type, const Tensor& logits, const Dataset& data) {
  double sum = 0;
  const auto width = static_cast<std::size_t>(logits.dim(1));
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const auto row = logits.span<float>().subspan(static_cast<std::size_t>(i) * width, width);
    sum -= math::log(probabilities(type, row)[static_cast<std::size_t>(data.at(i).targets[0])]);
  }
  return sum / static_cast<double>(data.size());
}

TEST(Ensemble, GivesTheMeanOfTheProbabilities) {
  Tensor a = Tensor::empty({2, 3}), b = Tensor::empty({2, 3});
  for (std::size_t i = 0; i < 6; ++i) {
    a.span<float>()[i] = static_cast<float>(i * i % 5) - 1;
    b.span<float>()[i] = static_cast<float>(i * 3 % 7) - 3;
  }
  const Tensor both[] = {a, b};
  const double temperatures[] = {2, 0.5};
  for (const ProblemType type :
       {ProblemType::kSingleLabel, ProblemType::kMultiLabel, ProblemType::kRegression}) {
    const Tensor mean = mean_of_probabilities(type, both, temperatures);
    for (std::size_t row = 0; row < 2; ++row) {
      const auto of = [&](const Tensor& t, double temperature) {
        return probabilities(type, t.span<float>().subspan(3 * row, 3), temperature);
      };
      std::vector<double> expected = of(a, 2), other = of(b, 0.5);
      for (std::size_t c = 0; c < 3; ++c) expected[c] = (expected[c] + other[c]) / 2;
      // A logit of up to 4 is rounded to 2.4e-7.
      EXPECT_THAT(of(mean, 1), Pointwise(DoubleNear(5e-7), expected)) << name_of(type);
    }
  }
  // A probability that is 0 in double, too.
  a.span<float>()[0] = 5000;
  const Tensor sure[] = {a};
  const Tensor certain = mean_of_probabilities(ProblemType::kSingleLabel, sure);
  for (const float logit : certain.span<float>()) EXPECT_TRUE(std::isfinite(logit));
  EXPECT_EQ(message_of<ArgumentError>([&] { mean_of_probabilities(ProblemType::kSingleLabel, {}); }),
            "[ensemble] there are no logits");
  EXPECT_EQ(message_of<ArgumentError>([&] {
              mean_of_probabilities(ProblemType::kSingleLabel, both, std::span(temperatures).first(1));
            }),
            "[ensemble] 1 temperatures, expected one for each of 2 classifiers");
  const Tensor unlike[] = {a, Tensor::zeros({2, 2})};
  EXPECT_EQ(message_of<ShapeError>([&] { mean_of_probabilities(ProblemType::kSingleLabel, unlike); }),
            "[ensemble] logits are float32 [2, 2], expected float32 [2, 3]");
}

TEST(Ensemble, IsBetterThanItsMembersOnAverage) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HalvesOfTokens validation(60, 2, 32);
  std::vector<Tensor> logits;
  double mean = 0;
  for (std::uint64_t order = 0; order < 3; ++order) {
    logits.push_back(trained_on(48, 1, order).logits(sequences_of(validation)));
    mean += loss_of(ProblemType::kSingleLabel, logits.back(), validation) / 3;
  }
  // The logarithm is concave: never worse.
  EXPECT_LT(loss_of(ProblemType::kSingleLabel, mean_of_probabilities(ProblemType::kSingleLabel, logits),
                    validation),
            mean);
}

TEST(PseudoLabels, AreThoseThatTheClassifierIsSureOf) {
  const Classifier classifier(Model::load(std::string(GPT_SOURCE_DIR) + "/examples/models/demo"),
                              {"one", "two", "three"});
  std::vector<LabelledRow> rows;
  std::vector<double> best;
  std::vector<std::string> labels;
  for (const char* text : {"But soft", "", "what light through yonder window", "breaks", "it is the east"}) {
    rows.push_back({text, {"?"}, std::ssize(rows) + 2});
    const std::vector<TokenId> ids = classifier.encode(text, 3);
    const std::vector<double> p =
        probabilities(ProblemType::kSingleLabel, classifier.logits({&ids, 1}).span<float>(), 0.5);
    best.push_back(*std::ranges::max_element(p));
    labels.push_back(classifier.labels()[static_cast<std::size_t>(std::ranges::max_element(p) - p.begin())]);
  }
  std::vector<double> sorted = best;
  std::ranges::sort(sorted);
  const auto sure =
      pseudo_labelled(classifier, rows, {.threshold = sorted[2], .temperature = 0.5, .max_length = 3});
  ASSERT_EQ(sure.size(), 3u);
  std::size_t next = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (best[i] < sorted[2]) continue;
    EXPECT_EQ(sure[next].text, rows[i].text);
    EXPECT_EQ(sure[next].labels, std::vector<std::string>{labels[i]});
    EXPECT_EQ(sure[next++].line, rows[i].line);
  }
  EXPECT_TRUE(pseudo_labelled(classifier, {}).empty());
  EXPECT_EQ(message_of<ArgumentError>([&] { pseudo_labelled(classifier, rows, {.threshold = 0}); }),
            "[pseudo_labels] threshold is 0, expected more than 0, at most 1");
  EXPECT_EQ(
      message_of<ArgumentError>([&] { pseudo_labelled(small_classifier(ProblemType::kRegression), rows); }),
      "[pseudo_labels] the classifier is of type regression, expected single_label_classification");
}

TEST(AverageWeights, IsTheMeanOfEveryWeight) {
  Classifier one = small_classifier(), two = trained_on(16, 1, 0), three = trained_on(16, 1, 1);
  const auto a = test::weights(one.model()), b = test::weights(two.model()), c = test::weights(three.model());
  const Tensor head = one.score().values.clone();
  const Classifier* const others[] = {&two, &three};
  average_weights(one, others);
  const auto expect_mean = [](const Tensor& mean, const Tensor& x, const Tensor& y, const Tensor& z) {
    for (std::size_t i = 0; i < mean.span<float>().size(); ++i)
      ASSERT_EQ(mean.span<float>()[i], static_cast<float>((static_cast<double>(x.span<float>()[i]) +
                                                           static_cast<double>(y.span<float>()[i]) +
                                                           static_cast<double>(z.span<float>()[i])) /
                                                          3));
  };
  for (const auto& [name, tensor] : test::weights(one.model()))
    expect_mean(tensor, a.at(name), b.at(name), c.at(name));
  expect_mean(one.score().values, head, two.score().values, three.score().values);
  // What it was made of stays.
  EXPECT_TRUE(test::same(b, test::weights(two.model())));
}

TEST(AverageWeights, OfRunsWithOneBeginningIsAGoodClassifier) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HalvesOfTokens validation(60, 2, 32);
  Classifier soup = trained_on(96, 1, 0);
  const Classifier other = trained_on(96, 1, 1);
  const Classifier* const others[] = {&other};
  average_weights(soup, others);
  const auto sequences = sequences_of(validation);
  EXPECT_LT(loss_of(ProblemType::kSingleLabel, soup.logits(sequences), validation),
            0.9 * loss_of(ProblemType::kSingleLabel, small_classifier().logits(sequences), validation));
}

TEST(AverageWeights, RefusesWhatIsNotAlike) {
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  EXPECT_EQ(message_of<ArgumentError>([&] { average_weights(network, std::span<const Gpt2* const>()); }),
            "[average_weights] there is one network, expected two or more");
  Gpt2Config config = test::tiny_config();
  config.n_embd = 8;
  const Gpt2 narrow = test::random_network(config, 1);
  const Gpt2* others[] = {&narrow};
  EXPECT_EQ(message_of<ArgumentError>([&] { average_weights(network, others); }),
            "[average_weights] wte.weight has shape [97, 8], expected [97, 16] in one of the others");
  config = test::tiny_config();
  config.n_layer = 1;
  const Gpt2 low = test::random_network(config, 1);
  others[0] = &low;
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(network, others); }),
              HasSubstr("one of the others has 16 parameters, expected 28"));
  config = test::tiny_config();
  config.n_head = 4;
  const Gpt2 other_heads = test::random_network(config, 1);
  others[0] = &other_heads;
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(network, others); }),
              HasSubstr("n_head = 4, expected 2"));
  config = test::tiny_config();
  config.activation_function = ops::Activation::kRelu;
  const Gpt2 other_activation = test::random_network(config, 1);
  others[0] = &other_activation;
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(network, others); }),
              HasSubstr("activation_function = relu, expected gelu_new"));
  config = test::tiny_config();
  config.scale_attn_by_inverse_layer_idx = true;
  const Gpt2 other_scale = test::random_network(config, 1);
  others[0] = &other_scale;
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(network, others); }),
              HasSubstr("scale_attn_by_inverse_layer_idx = 1, expected 0"));
  const HeadId first_head[] = {{0, 0}}, second_head[] = {{0, 1}};
  Gpt2 without_first = without_heads(network, first_head);
  const Gpt2 without_second = without_heads(network, second_head);
  others[0] = &without_second;
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(without_first, others); }),
              HasSubstr("the same pruned_heads"));
  Gpt2 adapted = test::random_network(test::tiny_config(), 1);
  adapted.attach(std::make_shared<LoraAdapter>(adapted, LoraConfig{.r = 2}, 3));
  others[0] = &adapted;
  EXPECT_THAT(message_of<UnsupportedError>([&] { average_weights(network, others); }),
              HasSubstr("merge it first"));
  Classifier classifier = small_classifier();
  const Classifier numbers = small_classifier(ProblemType::kRegression);
  const Classifier* const unlike[] = {&numbers};
  EXPECT_THAT(message_of<ArgumentError>([&] { average_weights(classifier, unlike); }),
              HasSubstr("other labels, or another problem_type"));
}

}  // namespace
}  // namespace gpt
