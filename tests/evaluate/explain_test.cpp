// A look inside: attributions against finite differences and their own sum, the lens against the network, attention against
// what is computed plainly.
#include "gpt/evaluate/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gpt/core/parallel.h"
#include "gpt/models/quantize.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::tiny_config;
using test::tokens;

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// The embeddings of a sequence, each times a number.
Tensor scaled(const Gpt2& network, const std::vector<TokenId>& ids, float scale) {
  Arena arena;
  const Chunk chunk{ids};
  const TensorView own = network.forward({&chunk, 1}, arena, {.hidden_states = true}).hidden_states[0];
  Tensor all = Tensor::empty(own.shape());
  std::ranges::transform(own.span<float>(), all.data<float>(), [&](float x) { return scale * x; });
  return all;
}

TEST(Attribution, OfGradientTimesInputIsTheSlopeAlongTheEmbeddings) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(7);
  const auto value = next_token_log_prob(network, 42);
  const Attribution found = gradient_times_input(network, ids, value);
  ASSERT_EQ(found.scores.size(), ids.size());
  Arena arena;
  const Chunk chunk{ids};
  const auto value_at = [&](float scale) {
    arena.reset();
    ForwardOptions options{.logits = LogitsRows::kNone, .final_hidden = true};
    const Tensor at = scaled(network, ids, scale);
    options.embeddings = at.view();
    return value(network.forward({&chunk, 1}, arena, options).final_hidden, nullptr, arena);
  };
  EXPECT_NEAR(found.value, value_at(1), 1e-12);
  // d/ds value(s x) at 1 is the sum of gradient times input. A value is wrong by some 1e-6, a step is 2^-7: 1e-3 beside a
  // third derivative that is small.
  const double slope = (value_at(1 + 0x1p-8f) - value_at(1 - 0x1p-8f)) * 0x1p7;
  EXPECT_NEAR(sum_of(found.scores), slope, 5e-3 * std::max(1.0, std::abs(slope)));
}

TEST(Attribution, ByIntegratedGradientsAddsUpToTheValue) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(7);
  const auto value = next_token_log_prob(network, 42);
  const auto error = [&](std::int64_t steps) {
    const Attribution found = integrated_gradients(network, ids, value, 96, steps);
    EXPECT_NEAR(found.value, gradient_times_input(network, ids, value).value, 1e-12);
    return std::abs(sum_of(found.scores) - (found.value - found.baseline));
  };
  const double coarse = error(4), fine = error(256);
  EXPECT_LT(fine, 1e-3);
  EXPECT_LT(fine, coarse);
}

TEST(Attribution, SaysTheSameOfAPackedNetworkAndWorksOnAQuantizedOne) {
  Gpt2 plain = random_network(tiny_config(), 1), packed = random_network(tiny_config(), 1),
       quantized = random_network(tiny_config(), 1);
  packed.pack();
  quantize(quantized, {});
  const auto ids = tokens(7);
  const auto scores = [&](const Gpt2& network) {
    return gradient_times_input(network, ids, next_token_log_prob(network, 42)).scores;
  };
  EXPECT_EQ(scores(plain), scores(packed));
  const auto expected = scores(plain), found = scores(quantized);
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 0.1 * std::max(1.0, std::abs(expected[i])));
}

// Instruction sets are compared by examples.same_bits.
TEST(Explanation, HasTheSameBitsOnAnyNumberOfThreads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = tiny_config();
  config.n_embd = 256;
  const Gpt2 network = random_network(config, 1);
  const auto ids = tokens(24);
  struct All {
    std::vector<double> gradient, integrated;
    std::vector<std::vector<std::vector<RankedToken>>> lens;
    std::vector<Tensor> attention;
    Tensor rollout;
  };
  const auto explained = [&](int threads) {
    set_num_threads(threads);
    const auto value = next_token_log_prob(network, 42);
    All all{gradient_times_input(network, ids, value).scores,
            integrated_gradients(network, ids, value, 96, 3).scores,
            logit_lens(network, ids, 4),
            attentions(network, ids),
            {}};
    all.rollout = attention_rollout(all.attention);
    set_num_threads(0);
    return all;
  };
  const All one = explained(1);
  for (const int threads : {2, 3}) {
    const All other = explained(threads);
    EXPECT_EQ(one.gradient, other.gradient);
    EXPECT_EQ(one.integrated, other.integrated);
    for (std::size_t layer = 0; layer < one.lens.size(); ++layer)
      for (std::size_t t = 0; t < ids.size(); ++t)
        for (std::size_t i = 0; i < 4; ++i) {
          EXPECT_EQ(one.lens[layer][t][i].id, other.lens[layer][t][i].id);
          EXPECT_EQ(one.lens[layer][t][i].log_prob, other.lens[layer][t][i].log_prob);
        }
    for (std::size_t layer = 0; layer < one.attention.size(); ++layer)
      EXPECT_TRUE(test::same_bits(one.attention[layer], other.attention[layer])) << layer;
    EXPECT_TRUE(test::same_bits(one.rollout, other.rollout));
  }
}

/// A classifier with labels a, b and c over a random network.
Classifier random_classifier(ProblemType type) {
  Model model(random_network(tiny_config(), 1), HfConfig("config.json"));
  return {std::move(model), {"a", "b", "c"}, type, 5};
}

TEST(Attribution, OfALabelIsOfItsLogProbability) {
  const Classifier classifier = random_classifier(ProblemType::kSingleLabel);
  const std::vector<TokenId> ids = tokens(7);
  const Tensor logits = classifier.logits({&ids, 1});
  const std::vector<double> p = probabilities(ProblemType::kSingleLabel, logits.span<float>());
  const Gpt2& network = classifier.model().network();
  for (std::int64_t label = 0; label < 3; ++label) {
    const Attribution found = integrated_gradients(network, ids, label_score(classifier, label), 96, 256);
    // The loss sums in double what the logits are in float32: their rounding, 2^-24 of numbers below 1.
    EXPECT_NEAR(found.value, std::log(p[static_cast<std::size_t>(label)]), 1e-6);
    EXPECT_NEAR(sum_of(found.scores), found.value - found.baseline, 1e-3);
    EXPECT_GT(std::abs(found.value - found.baseline), 3e-3);
  }
}

TEST(Attribution, OfALabelThatOthersDoNotExcludeIsOfItsLogit) {
  const Classifier classifier = random_classifier(ProblemType::kMultiLabel);
  const std::vector<TokenId> ids = tokens(7);
  const Tensor logits = classifier.logits({&ids, 1});
  const Gpt2& network = classifier.model().network();
  const Attribution found = integrated_gradients(network, ids, label_score(classifier, 2), 96, 256);
  EXPECT_NEAR(found.value, static_cast<double>(logits.data<float>()[2]), 1e-6);
  EXPECT_NEAR(sum_of(found.scores), found.value - found.baseline, 1e-3);
  EXPECT_GT(std::abs(found.value - found.baseline), 3e-3);
  expect_error<ArgumentError>([&] { label_score(classifier, 3); }, {"label is 3", "0 to 2"});
}

TEST(Attribution, RefusesWhatCannotBe) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(7);
  expect_error<ArgumentError>(
      [&] { integrated_gradients(network, ids, next_token_log_prob(network, 1), 96, 0); }, {"steps is 0"});
  expect_error<ArgumentError>(
      [&] { integrated_gradients(network, ids, next_token_log_prob(network, 1), 96, (1 << 24) + 1); },
      {"steps is 16777217, expected 1 to 16777216"});
  expect_error<ArgumentError>(
      [&] { integrated_gradients(network, ids, next_token_log_prob(network, 1), 97); }, {"token id 97"});
  Arena arena;
  const Chunk chunk{ids};
  const Tensor few = Tensor::zeros({3, 16});
  ForwardOptions options;
  options.embeddings = few.view();
  expect_error<ArgumentError>([&] { network.forward({&chunk, 1}, arena, options); }, {"[3, 16]", "[7, 16]"});
  expect_error<ArgumentError>([&] { gradient_times_input(network, ids, next_token_log_prob(network, 97)); },
                              {"97"});
  expect_error<ArgumentError>([&] { gradient_times_input(network, {}, next_token_log_prob(network, 1)); },
                              {"no tokens"});
  std::stop_source stop;
  stop.request_stop();
  expect_error<CancelledError>(
      [&] { gradient_times_input(network, ids, next_token_log_prob(network, 1), stop.get_token()); }, {});
}

TEST(LogitLens, EndsWithWhatTheNetworkSays) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(9);
  const auto layers = logit_lens(network, ids, 3);
  ASSERT_EQ(layers.size(), 3u);  // embeddings and two layers
  const auto scored = score_tokens(network, ids, 3);
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    ASSERT_EQ(layers[2][t].size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(layers[2][t][i].id, scored[t].top[i].id);
      EXPECT_NEAR(layers[2][t][i].log_prob, scored[t].top[i].log_prob, 1e-6);
    }
  }
  EXPECT_NE(layers[0][4][0].id, layers[2][4][0].id);
  expect_error<ArgumentError>([&] { logit_lens(network, ids, 0); }, {"top_n is 0"});
  expect_error<ArgumentError>([&] { logit_lens(network, ids, 98); }, {"top_n is 98"});
}

TEST(Attentions, AreProbabilitiesAndALookChangesNothing) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(20);
  const std::vector<Tensor> layers = attentions(network, ids);
  ASSERT_EQ(layers.size(), 2u);
  for (const Tensor& layer : layers) {
    ASSERT_EQ(layer.shape(), (Shape{2, 20, 20}));
    for (std::int64_t row = 0; row < 40; ++row) {
      double sum = 0;
      for (std::int64_t key = 0; key < 20; ++key) {
        const float p = layer.data<float>()[row * 20 + key];
        if (key > row % 20) {
          EXPECT_EQ(p, 0.0f);
        }
        EXPECT_GE(p, 0.0f);
        sum += static_cast<double>(p);
      }
      EXPECT_NEAR(sum, 1, 20 * 0x1p-24);
    }
  }
  // A look changes nothing.
  Arena a, b;
  const Chunk chunk{ids};
  EXPECT_TRUE(test::same_bits(ConstTensorView(network.forward({&chunk, 1}, a).logits),
                              ConstTensorView(network.forward({&chunk, 1}, b, {.attentions = true}).logits)));
  const Chunk two[] = {{ids}, {ids}};
  expect_error<ArgumentError>([&] { network.forward(two, a, {.attentions = true}); }, {"a single sequence"});
}

TEST(Attentions, RollOutToWhatReachesEachPosition) {
  // Two layers of one head over two tokens, by hand: (A + I) / 2 of each, the second times the first.
  Tensor first = Tensor::zeros({1, 2, 2}), second = Tensor::zeros({1, 2, 2});
  std::ranges::copy(std::vector<float>{1, 0, 0.5f, 0.5f}, first.data<float>());
  std::ranges::copy(std::vector<float>{1, 0, 1, 0}, second.data<float>());
  const std::vector<Tensor> layers{first, second};
  const Tensor rollout = attention_rollout(layers);
  // first: [1 0; .25 .75], second: [1 0; .5 .5]: row 1 = .5 (1, 0) + .5 (.25, .75)
  EXPECT_THAT(std::vector<float>(rollout.data<float>(), rollout.data<float>() + 4),
              ::testing::ElementsAreArray({1.0f, 0.0f, 0.625f, 0.375f}));
  // What counts of a layer is the mean over its heads, of which another may have more.
  Tensor twice = Tensor::zeros({2, 2, 2});
  std::ranges::copy(std::vector<float>{1, 0, 0.75f, 0.25f, 1, 0, 0.25f, 0.75f}, twice.data<float>());
  const std::vector<Tensor> of_different_heads{twice, second};
  const Tensor same = attention_rollout(of_different_heads);
  EXPECT_TRUE(test::same_bits(same, rollout));
  expect_error<ArgumentError>([] { attention_rollout({}); }, {"no layers"});
  const std::vector<Tensor> uneven{first, Tensor::zeros({1, 3, 3})};
  expect_error<ShapeError>([&] { attention_rollout(uneven); }, {"[1, 3, 3]", "[1, 2, 2]"});
}

}  // namespace
}  // namespace gpt
