// Layer norm, softmax, log-probabilities and embedding: the ops that work row by row.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/embedding.h"
#include "gpt/ops/layer_norm.h"
#include "gpt/ops/softmax.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::ops {
namespace {

using gpt::test::message_of;
using gpt::test::random_tensor;
using gpt::test::same_bits;
using ::testing::HasSubstr;

TEST(LayerNorm, AgreesWithDoublePrecision) {
  for (const std::int64_t c : {1, 7, 48, 768, 5000}) {
    const Tensor x = random_tensor({3, c}, 1, DType::f32, 2.0f), gamma = random_tensor({c}, 2),
                 beta = random_tensor({c}, 3);
    Tensor y = Tensor::empty(x.shape());
    layer_norm(x, gamma, beta, 1e-5f, y);
    for (std::int64_t r = 0; r < 3; ++r) {
      const float* row = x.data<float>() + r * c;
      double mean = 0, variance = 0;
      for (std::int64_t i = 0; i < c; ++i) mean += static_cast<double>(row[i]) / static_cast<double>(c);
      for (std::int64_t i = 0; i < c; ++i) {
        const double d = static_cast<double>(row[i]) - mean;
        variance += d * d / static_cast<double>(c);
      }
      for (std::int64_t i = 0; i < c; ++i) {
        const double normal =
            (static_cast<double>(row[i]) - mean) / std::sqrt(variance + static_cast<double>(1e-5f));
        const double g = static_cast<double>(gamma.data<float>()[i]),
                     b = static_cast<double>(beta.data<float>()[i]);
        // The sums lose at most C/16 + 4 roundings of their size, the rest a handful.
        const double bound =
            (static_cast<double>(c) / 16 + 12) * 0x1p-24 * (std::abs(normal * g) + std::abs(g) + std::abs(b));
        ASSERT_NEAR(y.data<float>()[r * c + i], normal * g + b, bound) << "C " << c;
      }
    }
  }
}

// sum of w y, for a row, in double precision.
double weighted_layer_norm(const std::vector<double>& x, const float* gamma, const float* w) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, variance = 0, sum = 0;
  for (const double v : x) mean += v / n;
  for (const double v : x) variance += (v - mean) * (v - mean) / n;
  for (std::size_t i = 0; i < x.size(); ++i)
    sum += static_cast<double>(w[i]) * static_cast<double>(gamma[i]) * (x[i] - mean) /
           std::sqrt(variance + static_cast<double>(1e-5f));
  return sum;
}

TEST(LayerNormBackward, IsTheSlopeOfLayerNorm) {
  constexpr std::int64_t kRows = 3;
  constexpr double kStep = 1e-5;
  for (const std::int64_t c : {2, 7, 48, 200}) {
    const Tensor x = random_tensor({kRows, c}, 1, DType::f32, 2.0f), dy = random_tensor({kRows, c}, 2),
                 gamma = random_tensor({c}, 3);
    Tensor dx = Tensor::zeros({kRows, c}), dgamma = Tensor::zeros({c}), dbeta = Tensor::zeros({c});
    Arena scratch;
    layer_norm_backward(x, gamma, 1e-5f, dy, dx, dgamma, dbeta, scratch);
    std::vector<double> gamma_sums(static_cast<std::size_t>(c)), beta_sums(gamma_sums), sizes(gamma_sums);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const float *row = x.data<float>() + r * c, *w = dy.data<float>() + r * c;
      std::vector<double> at(row, row + c);
      double largest = 0;  // of |dy gamma|
      for (std::int64_t i = 0; i < c; ++i)
        largest = std::max(largest,
                           std::abs(static_cast<double>(w[i]) * static_cast<double>(gamma.data<float>()[i])));
      double mean = 0, variance = 0;
      for (const double v : at) mean += v / static_cast<double>(c);
      for (const double v : at) variance += (v - mean) * (v - mean) / static_cast<double>(c);
      const double scale = 1 / std::sqrt(variance + static_cast<double>(1e-5f));
      for (std::int64_t i = 0; i < c; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const double there = at[k];
        at[k] = there + kStep;
        const double up = weighted_layer_norm(at, gamma.data<float>(), w);
        at[k] = there - kStep;
        const double down = weighted_layer_norm(at, gamma.data<float>(), w);
        at[k] = there;
        const double normal = (there - mean) * scale;
        // Three terms of at most scale (1 + n^2) max |dy gamma|, whose sums lose C / 16 + 4 roundings and the rest a handful;
        // the difference quotient errs by its h^2 and by the rounding of both sums.
        const double bound =
            (static_cast<double>(c) / 16 + 20) * 0x1p-24 * scale * (2 + normal * normal) * largest +
            1e-8 * scale * static_cast<double>(c) * largest;
        ASSERT_NEAR(dx.data<float>()[r * c + i], (up - down) / (2 * kStep), bound)
            << "C " << c << " row " << r;
        gamma_sums[k] += static_cast<double>(w[i]) * normal;
        beta_sums[k] += static_cast<double>(w[i]);
        sizes[k] += std::abs(static_cast<double>(w[i])) * (1 + std::abs(normal));
      }
    }
    for (std::int64_t i = 0; i < c; ++i) {
      const auto k = static_cast<std::size_t>(i);
      const double bound = (kRows + static_cast<double>(c) / 16 + 12) * 0x1p-24 * sizes[k] + 1e-30;
      EXPECT_NEAR(dgamma.data<float>()[i], gamma_sums[k], bound);
      EXPECT_NEAR(dbeta.data<float>()[i], beta_sums[k], bound);
    }
  }
}

TEST(LayerNormBackward, AddsToWhatIsThere) {
  const Tensor x = random_tensor({2, 20}, 1), dy = random_tensor({2, 20}, 2), gamma = random_tensor({20}, 3);
  Tensor once[3] = {Tensor::zeros({2, 20}), Tensor::zeros({20}), Tensor::zeros({20})};
  Tensor more[3] = {random_tensor({2, 20}, 4), random_tensor({20}, 5), random_tensor({20}, 6)};
  const Tensor before[3] = {more[0].clone(), more[1].clone(), more[2].clone()};
  Arena scratch;
  layer_norm_backward(x, gamma, 1e-5f, dy, once[0], once[1], once[2], scratch);
  layer_norm_backward(x, gamma, 1e-5f, dy, more[0], more[1], more[2], scratch);
  for (int t = 0; t < 3; ++t)
    for (std::int64_t i = 0; i < once[t].numel(); ++i) {
      const float added = once[t].data<float>()[i], start = before[t].data<float>()[i];
      EXPECT_NEAR(more[t].data<float>()[i], start + added, 2 * 0x1p-24 * (std::abs(start) + std::abs(added)));
    }
}

TEST(LayerNormBackward, GivesEachGradientWithoutTheOthers) {
  const Tensor x = random_tensor({5, 40}, 1), dy = random_tensor({5, 40}, 2), gamma = random_tensor({40}, 3);
  const auto zeros = [] {
    return std::vector{Tensor::zeros({5, 40}), Tensor::zeros({40}), Tensor::zeros({40})};
  };
  Arena scratch;
  std::vector<Tensor> all = zeros();
  layer_norm_backward(x, gamma, 1e-5f, dy, all[0], all[1], all[2], scratch);
  for (std::size_t only = 0; only < 3; ++only) {
    Tensor one = zeros()[only];
    TensorView wanted[3];
    wanted[only] = one;
    layer_norm_backward(x, gamma, 1e-5f, dy, wanted[0], wanted[1], wanted[2], scratch);
    EXPECT_TRUE(same_bits(one, all[only])) << only;
  }
}

TEST(LayerNormBackward, DoesNotDependOnTheNumberOfThreads) {
  const Tensor x = random_tensor({300, 800}, 1), dy = random_tensor({300, 800}, 2),
               gamma = random_tensor({800}, 3);
  Tensor results[2][3];
  for (const int i : {0, 1}) {
    for (int t = 0; t < 3; ++t) results[i][t] = Tensor::zeros(t == 0 ? Shape{300, 800} : Shape{800});
    set_num_threads(i == 0 ? 1 : 3);
    Arena scratch;
    layer_norm_backward(x, gamma, 1e-5f, dy, results[i][0], results[i][1], results[i][2], scratch);
    set_num_threads(0);
  }
  for (int t = 0; t < 3; ++t) EXPECT_TRUE(same_bits(results[0][t], results[1][t])) << t;
}

TEST(LayerNormBackward, NamesTheOperandThatDoesNotFit) {
  const Tensor x = random_tensor({2, 20}, 1), gamma = random_tensor({20}, 3);
  Tensor dx = Tensor::zeros({2, 20}), d = Tensor::zeros({20}), wrong = Tensor::zeros({19});
  Arena scratch;
  EXPECT_EQ(message_of<ShapeError>([&] { layer_norm_backward(x, gamma, 1e-5f, x, dx, d, wrong, scratch); }),
            "[layer_norm_backward] dbeta has shape [19], expected [C] = [20]");
  EXPECT_EQ(message_of<ShapeError>([&] { layer_norm_backward(x, gamma, 1e-5f, gamma, dx, d, d, scratch); }),
            "[layer_norm_backward] dy has shape [20], expected the shape of x = [2, 20]");
}

TEST(LayerNorm, NamesTheOperandThatDoesNotFit) {
  const Tensor x = random_tensor({2, 768}, 1), gamma = random_tensor({767}, 2),
               beta = random_tensor({768}, 3);
  Tensor y = Tensor::empty(x.shape());
  EXPECT_EQ(message_of<ShapeError>([&] { layer_norm(x, gamma, beta, 1e-5f, y); }),
            "[layer_norm] gamma has shape [767], expected [C] = [768]");
}

TEST(Softmax, SumsToOneAndKeepsRatios) {
  const Tensor x = random_tensor({4, 1000}, 1, DType::f32, 5.0f);
  Tensor y = Tensor::empty(x.shape());
  softmax(x, y);
  for (std::int64_t r = 0; r < 4; ++r) {
    double sum = 0, total = 0;
    const float *in = x.data<float>() + r * 1000, *out = y.data<float>() + r * 1000;
    for (int i = 0; i < 1000; ++i) sum += static_cast<double>(out[i]);
    for (int i = 0; i < 1000; ++i) total += std::exp(static_cast<double>(in[i]));
    EXPECT_NEAR(sum, 1.0, 1000 * 0x1p-24);
    for (int i = 0; i < 1000; ++i) {
      const double expected = std::exp(static_cast<double>(in[i])) / total;
      // The difference to the maximum (up to 40) is rounded before it is exponentiated, then some roundings
      // more.
      EXPECT_NEAR(out[i], expected, 90 * 0x1p-24 * expected + 1e-38);
    }
  }
}

TEST(Softmax, GivesZeroToMinusInfinityAndNaNToARowOfIt) {
  constexpr float kMinus = -std::numeric_limits<float>::infinity();
  Tensor x = Tensor::empty({2, 3});
  const float values[] = {0.0f, kMinus, 0.0f, kMinus, kMinus, kMinus};
  std::copy(std::begin(values), std::end(values), x.data<float>());
  softmax(x, x);
  EXPECT_EQ(x.data<float>()[0], 0.5f);
  EXPECT_EQ(x.data<float>()[1], 0.0f);
  for (int i = 3; i < 6; ++i) EXPECT_TRUE(std::isnan(x.data<float>()[i]));
}

TEST(TokenLogProbs, AgreeWithDoublePrecision) {
  const Tensor x = random_tensor({3, 50257}, 1, DType::f32, 4.0f);
  const std::vector<TokenId> ids{0, 50256, 777};
  std::vector<double> got(3);
  token_log_probs(x, ids, got);
  for (std::size_t r = 0; r < 3; ++r) {
    const float* row = x.data<float>() + static_cast<std::int64_t>(r) * 50257;
    double total = 0;
    for (int i = 0; i < 50257; ++i) total += std::exp(static_cast<double>(row[i]));
    // Blocks of 4096 add 256 numbers a lane; every term carries the rounding of x - max and of e^x.
    EXPECT_NEAR(got[r], static_cast<double>(row[ids[r]]) - std::log(total), (256 + 90) * 0x1p-24);
  }
}

TEST(TokenLogProbs, RefuseAnIdOutsideTheVocabulary) {
  const Tensor x = random_tensor({1, 5}, 1);
  double out = 0;
  for (const TokenId bad : {-1, 5}) {
    const std::string what =
        message_of<ArgumentError>([&] { token_log_probs(x, std::span(&bad, 1), std::span(&out, 1)); });
    EXPECT_THAT(what, HasSubstr(std::to_string(bad) + " at row 0 is outside [0, 5)"));
  }
}

Weight table(const Tensor& rows) { return test::plain_weight(rows, WeightLayout::kOutIn); }

TEST(Embedding, AddsTokenAndPosition) {
  const Tensor wte = random_tensor({5, 19}, 1), wpe = random_tensor({3, 19}, 2);
  const std::vector<TokenId> ids{4, 0};
  const std::vector<std::int32_t> positions{2, 0};
  Tensor y = Tensor::empty({2, 19});
  embedding(ids, positions, table(wte), table(wpe), y);
  for (int i = 0; i < 19; ++i) {
    EXPECT_EQ(y.data<float>()[i], wte.data<float>()[4 * 19 + i] + wpe.data<float>()[2 * 19 + i]);
    EXPECT_EQ(y.data<float>()[19 + i], wte.data<float>()[i] + wpe.data<float>()[i]);
  }
}

TEST(Embedding, RefusesIdsAndPositionsOutsideTheTables) {
  const Tensor wte = random_tensor({5, 4}, 1), wpe = random_tensor({3, 4}, 2);
  Tensor y = Tensor::empty({1, 4});
  const auto run = [&](TokenId id, std::int32_t position) {
    return message_of<ArgumentError>(
        [&] { embedding(std::span(&id, 1), std::span(&position, 1), table(wte), table(wpe), y); });
  };
  EXPECT_EQ(run(5, 0), "[embedding] token id 5 at row 0 is outside [0, 5)");
  EXPECT_EQ(run(-1, 0), "[embedding] token id -1 at row 0 is outside [0, 5)");
  EXPECT_EQ(run(0, 3), "[embedding] position 3 at row 0 is outside [0, 3)");
}

TEST(RowOps, DoNotDependOnTheNumberOfThreads) {
  // Large enough that the ops give every thread its share (ops/checks.h, grain_for).
  const Tensor x = random_tensor({601, 1001}, 1), gamma = random_tensor({1001}, 2),
               beta = random_tensor({1001}, 3);
  const auto run = [&](int threads) {
    set_num_threads(threads);
    std::vector<Tensor> out;
    for (int i = 0; i < 3; ++i) out.push_back(Tensor::empty(x.shape()));
    layer_norm(x, gamma, beta, 1e-5f, out[0]);
    softmax(x, out[1]);
    activation(Activation::kGelu, x, out[2]);
    set_num_threads(0);
    return out;
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto many = run(threads);
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], many[i])) << i;
  }
}

TEST(ActivationName, GoesBothWays) {
  for (const char* name : {"gelu_new", "gelu", "relu", "silu", "tanh", "quick_gelu", "gelu_fast"}) {
    const auto known = activation_from_name(name);
    ASSERT_TRUE(known.has_value()) << name;
    EXPECT_EQ(name_of(*known), name);
  }
  EXPECT_EQ(activation_from_name("gelu_pytorch_tanh"), Activation::kGeluNew);
  EXPECT_FALSE(activation_from_name("swiglu").has_value());
}

}  // namespace
}  // namespace gpt::ops
