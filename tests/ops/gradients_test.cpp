// The backward of every op against a forward in double precision, differentiated numerically (slopes.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/ops/attention.h"
#include "gpt/ops/dropout.h"
#include "gpt/ops/embedding.h"
#include "gpt/ops/linear.h"
#include "gpt/ops/optimizer.h"
#include "gpt/ops/quantize.h"
#include "ops/attention_cache.h"
#include "ops/slopes.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::ops {
namespace {

using gpt::test::doubles;
using gpt::test::expect_slopes;
using gpt::test::message_of;
using gpt::test::random_tensor;
using gpt::test::same_bits;

double sum_of_products(const std::vector<double>& a, const Tensor& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(b.span<float>()[i]);
  return sum;
}

struct Product {
  std::int64_t m, k, n;

  std::vector<double> operator()(const std::vector<double>& x, const std::vector<double>& w,
                                 WeightLayout layout) const {
    std::vector<double> y(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t l = 0; l < k; ++l)
          y[static_cast<std::size_t>(i * n + j)] +=
              x[static_cast<std::size_t>(i * k + l)] *
              w[static_cast<std::size_t>(layout == WeightLayout::kInOut ? l * n + j : j * k + l)];
    return y;
  }
};

TEST(LinearBackward, IsTheSlopeOfTheProduct) {
  for (const Product& p : {Product{1, 5, 3}, {7, 33, 19}, {40, 20, 70}})
    for (const WeightLayout layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
      const Weight weight = gpt::test::random_weight(p.k, p.n, layout, DType::f32, 2);
      const Tensor x = random_tensor({p.m, p.k}, 1), dy = random_tensor({p.m, p.n}, 3);
      Tensor dx = Tensor::empty(x.shape()), dweight = Tensor::zeros(weight.values.shape()),
             dbias = Tensor::zeros({p.n});
      Arena arena;
      linear_backward(x, weight, dy, {.dx = dx, .dweight = dweight, .dbias = dbias}, arena);
      const std::vector<double> xs = doubles(x), ws = doubles(weight.values);
      expect_slopes(
          x, dx, [&](const auto& at) { return sum_of_products(p(at, ws, layout), dy); },
          static_cast<double>(p.n));
      expect_slopes(
          weight.values, dweight, [&](const auto& at) { return sum_of_products(p(xs, at, layout), dy); },
          static_cast<double>(p.m));
      for (std::int64_t j = 0; j < p.n; ++j) {
        double sum = 0, magnitude = 0;
        for (std::int64_t i = 0; i < p.m; ++i) {
          sum += static_cast<double>(dy.data<float>()[i * p.n + j]);
          magnitude += std::abs(static_cast<double>(dy.data<float>()[i * p.n + j]));
        }
        EXPECT_NEAR(dbias.data<float>()[j], sum, static_cast<double>(p.m) * 0x1p-24 * magnitude);
      }
    }
}

TEST(LinearBackward, AddsToWhatIsThere) {
  const Weight weight = gpt::test::random_weight(20, 9, WeightLayout::kInOut, DType::f32, 2);
  const Tensor x = random_tensor({6, 20}, 1), dy = random_tensor({6, 9}, 3);
  Arena arena;
  Tensor once[] = {Tensor::zeros(x.shape()), Tensor::zeros({20, 9}), Tensor::zeros({9})};
  linear_backward(x, weight, dy, {.dx = once[0], .dweight = once[1], .dbias = once[2]}, arena);
  Tensor more[] = {random_tensor(x.shape(), 4), random_tensor({20, 9}, 5), random_tensor({9}, 6)};
  const Tensor before[] = {more[0].clone(), more[1].clone(), more[2].clone()};
  linear_backward(x, weight, dy, {.dx = more[0], .add_to_dx = true, .dweight = more[1], .dbias = more[2]},
                  arena);
  for (int i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < once[i].span<float>().size(); ++j)
      ASSERT_EQ(more[i].span<float>()[j], before[i].span<float>()[j] + once[i].span<float>()[j]) << i;
}

// So many rows that dweight is computed in several parts.
TEST(LinearBackward, AddsTheProductOfManyRowsAsChainsOverThem) {
  constexpr std::int64_t kM = 4200, kK = 300, kN = 17;
  const Tensor x = random_tensor({kM, kK}, 1), dy = random_tensor({kM, kN}, 2);
  for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
    const Weight w = gpt::test::random_weight(kK, kN, layout, DType::f32, 3);
    Tensor dweight = random_tensor(w.file_shape(), 4), expected = dweight.clone();
    for (std::int64_t k = 0; k < kK; ++k)
      for (std::int64_t n = 0; n < kN; ++n) {
        float sum = 0;
        for (std::int64_t m = 0; m < kM; ++m)
          sum = std::fma(x.data<float>()[m * kK + k], dy.data<float>()[m * kN + n], sum);
        expected.data<float>()[layout == WeightLayout::kInOut ? k * kN + n : n * kK + k] += sum;
      }
    Arena scratch;
    linear_backward(x, w, dy, {.dweight = dweight}, scratch);
    EXPECT_TRUE(same_bits(dweight, expected));
  }
}

// What a matrix in panels is multiplied by on the way back is what it is computed with on the way there.
TEST(LinearBackward, WidensMatricesInPanels) {
  const Tensor dy = random_tensor({6, 40}, 3);
  for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
    const Weight plain = gpt::test::random_weight(72, 40, layout, DType::f32, 2),
                 half = gpt::test::random_weight(72, 40, layout, DType::bf16, 2);
    for (const Weight& in_panels :
         {pack(plain), pack(half), quantize("w", plain, {.format = WeightFormat::int8}),
          quantize("w", plain, {.format = WeightFormat::int4, .group_size = 32, .symmetric = false})}) {
      const Weight wide{.in = 72, .out = 40, .layout = layout, .values = dequantize(in_panels, layout)};
      Tensor expected = random_tensor({6, 72}, 4), found = expected.clone();
      Arena arena;
      linear_backward({}, wide, dy, {.dx = expected, .add_to_dx = true}, arena);
      linear_backward({}, in_panels, dy, {.dx = found, .add_to_dx = true}, arena);
      EXPECT_TRUE(same_bits(expected, found)) << name_of(in_panels.format());
    }
  }
}

TEST(LinearBackward, RefusesWrongShapes) {
  const Weight weight = gpt::test::random_weight(20, 9, WeightLayout::kInOut, DType::f32, 2);
  Tensor x = random_tensor({6, 20}, 1), dy = random_tensor({6, 9}, 3);
  Arena arena;
  EXPECT_EQ(message_of<ShapeError>([&] { linear_backward(x, weight, dy, {.dweight = x}, arena); }),
            "[linear_backward] dweight has shape [6, 20], expected the shape of the weight = [20, 9]");
  EXPECT_EQ(message_of<ShapeError>([&] { linear_backward(x, weight, x, {.dx = x}, arena); }),
            "[linear_backward] dy has shape [6, 20], expected [M, N] = [6, 9]");
}

// Causal attention of one sequence, qkv [rows, 3 D].
std::vector<double> attend(const std::vector<double>& qkv, std::int64_t rows, const AttentionShape& s) {
  // The factors of dropout, where the declaration says they are.
  const std::int64_t width = whole_groups(rows);
  Tensor factors = Tensor::empty({s.n_head * rows, width});
  std::ranges::fill(factors.span<float>(), 1.0f);
  dropout(factors, s.dropout, {}, factors);
  const std::int64_t d = s.n_head * s.head_dim;
  const auto at = [&](std::int64_t row, std::int64_t part, std::int64_t i) {
    return qkv[static_cast<std::size_t>(row * 3 * d + part * d + i)];
  };
  std::vector<double> y(static_cast<std::size_t>(rows * d));
  for (std::int64_t h = 0; h < s.n_head; ++h)
    for (std::int64_t t = 0; t < rows; ++t) {
      std::vector<double> p;
      double total = 0;
      for (std::int64_t j = 0; j <= t; ++j) {
        double score = 0;
        for (std::int64_t i = 0; i < s.head_dim; ++i)
          score += at(t, 0, h * s.head_dim + i) * at(j, 1, h * s.head_dim + i);
        p.push_back(std::exp(score * static_cast<double>(s.scale)));
        total += p.back();
      }
      for (std::int64_t j = 0; j <= t; ++j)
        for (std::int64_t i = 0; i < s.head_dim; ++i)
          y[static_cast<std::size_t>(t * d + h * s.head_dim + i)] +=
              p[static_cast<std::size_t>(j)] / total *
              static_cast<double>(factors.data<float>()[(h * rows + t) * width + j]) *
              at(j, 2, h * s.head_dim + i);
    }
  return y;
}

// Forward and backward of sequences of these lengths, side by side.
struct Attended {
  Tensor y, dqkv;

  Attended(const Tensor& qkv, const Tensor& dy, const std::vector<std::int64_t>& lengths,
           const AttentionShape& shape) {
    y = Tensor::empty(dy.shape());
    dqkv = Tensor::empty(qkv.shape());
    Tensor statistics = Tensor::empty({qkv.dim(0), shape.n_head, 2});
    std::vector<AttentionSpan> spans;
    std::vector<test::AttentionCache> caches;
    std::int64_t row = 0;
    for (const std::int64_t n : lengths) {
      caches.emplace_back(shape.n_head, shape.head_dim, n);
      spans.push_back(caches.back().span(row, n, 0));
      row += n;
    }
    Arena arena;
    attention(qkv, spans, shape, y, statistics);
    attention_backward(qkv, spans, shape, y, statistics, dy, dqkv, arena);
  }
};

TEST(AttentionBackward, IsTheSlopeOfAttention) {
  struct Case {
    std::int64_t rows;
    AttentionShape shape;
  };
  for (const Case& c : {Case{1, {2, 8, 0.4f}},
                        {5, {1, 3, 0.7f}},
                        {20, {3, 16, 0.25f}},
                        {70, {2, 20, 0.2f}},
                        {19, {1, 530, 0.05f}},
                        {70, {2, 20, 0.2f, {0.3f, 7, 9}}},
                        {2, {2, 20, 0.2f, {0.5f, 7, 9}}}}) {
    const std::int64_t rows = c.rows;
    const AttentionShape shape = c.shape;
    const std::int64_t d = shape.n_head * shape.head_dim;
    const Tensor qkv = random_tensor({rows, 3 * d}, 1), dy = random_tensor({rows, d}, 2);
    const Attended found(qkv, dy, {rows}, shape);
    const std::vector<double> y = attend(doubles(qkv), rows, shape);
    for (std::size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(found.y.span<float>()[i], y[i],
                  static_cast<double>(4 * (shape.head_dim + rows)) * 0x1p-24 * 8)
          << i;
    // Scores lose a rounding for each element of a head, sums of probabilities one for each row.
    expect_slopes(
        qkv, found.dqkv, [&](const auto& at) { return sum_of_products(attend(at, rows, shape), dy); },
        static_cast<double>(4 * (shape.head_dim + rows)));
  }
}

TEST(AttentionBackward, LeavesTheOnlyKeyOfAQueryWithoutAGradient) {
  const Tensor qkv = random_tensor({2, 60}, 1), dy = random_tensor({2, 20}, 2);
  const Attended found(qkv, dy, {1, 1}, {1, 20, 0.3f});
  for (std::int64_t row = 0; row < 2; ++row)
    for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(found.dqkv.data<float>()[row * 60 + i], 0.0f) << i;
}

TEST(AttentionBackward, KeepsSequencesApartOnAnyNumberOfThreads) {
  const AttentionShape shape{3, 24, 0.2f};
  const std::vector<std::int64_t> lengths{17, 1, 64, 50};
  const Tensor qkv = random_tensor({132, 3 * 72}, 1), dy = random_tensor({132, 72}, 2);
  set_num_threads(1);
  const Attended together(qkv, dy, lengths, shape);
  set_num_threads(3);
  EXPECT_TRUE(same_bits(Attended(qkv, dy, lengths, shape).dqkv, together.dqkv));
  set_num_threads(0);
  std::int64_t row = 0;
  for (const std::int64_t n : lengths) {
    const auto part = [&](const Tensor& t) {
      return Tensor::borrow(nullptr, const_cast<float*>(t.data<float>()) + row * t.dim(1), {n, t.dim(1)},
                            DType::f32);
    };
    EXPECT_TRUE(same_bits(Attended(part(qkv), part(dy), {n}, shape).dqkv, part(together.dqkv))) << row;
    row += n;
  }
}

TEST(Dropout, KeepsWhatItsRandomBitsSay) {
  const Tensor x = random_tensor({7, 100}, 1), residual = random_tensor({7, 100}, 2);
  for (const float rate : {0.0f, 0.1f, 0.75f}) {
    const Dropout d{rate, 0x123456789abcdefu, 0xfedcba987654321u};
    Tensor y = Tensor::empty(x.shape());
    dropout(x, d, residual, y);
    std::int64_t kept = 0;
    for (std::uint64_t i = 0; i < 700; ++i) {
      const auto bits = philox4x32({static_cast<std::uint32_t>(i / 4), 0, 0x87654321u, 0xfedcba9u},
                                   {0x89abcdefu, 0x1234567u})[i % 4];
      const bool stays = static_cast<double>(bits) >= std::floor(static_cast<double>(rate) * 0x1p32);
      kept += stays;
      const float factor = stays ? static_cast<float>(1 / (1 - static_cast<double>(rate))) : 0.0f;
      ASSERT_EQ(y.span<float>()[i], residual.span<float>()[i] + x.span<float>()[i] * factor)
          << rate << ' ' << i;
    }
    EXPECT_NEAR(static_cast<double>(kept), 700 * (1 - static_cast<double>(rate)), 5 * std::sqrt(700.0 / 4));
  }
  Tensor y = Tensor::empty(x.shape());
  for (const float rate : {-0.1f, 1.0f, std::nanf("")})
    EXPECT_THROW(dropout(x, {rate, 0, 0}, {}, y), ArgumentError) << rate;
}

TEST(EmbeddingBackward, AddsRowsToTheirTokensAndPositions) {
  const std::vector<TokenId> ids{3, 0, 3, 3};
  const std::vector<std::int32_t> positions{0, 1, 2, 0};
  const Tensor dy = random_tensor({4, 21}, 1);
  Tensor dwte = random_tensor({5, 21}, 2), dwpe = random_tensor({3, 21}, 3);
  const Tensor wte = dwte.clone(), wpe = dwpe.clone();
  embedding_backward(ids, positions, dy, dwte, dwpe);
  const float* g = dy.data<float>();
  for (std::int64_t i = 0; i < 21; ++i) {
    const float* t = wte.data<float>();
    const float* p = wpe.data<float>();
    EXPECT_EQ(dwte.data<float>()[3 * 21 + i], ((t[3 * 21 + i] + g[i]) + g[2 * 21 + i]) + g[3 * 21 + i]);
    EXPECT_EQ(dwte.data<float>()[i], t[i] + g[21 + i]);
    EXPECT_EQ(dwte.data<float>()[4 * 21 + i], t[4 * 21 + i]);
    EXPECT_EQ(dwpe.data<float>()[i], (p[i] + g[i]) + g[3 * 21 + i]);
    EXPECT_EQ(dwpe.data<float>()[2 * 21 + i], p[2 * 21 + i] + g[2 * 21 + i]);
  }
  embedding_backward(ids, positions, dy, {}, {});
  EXPECT_EQ(message_of<ArgumentError>([&] { embedding_backward(ids, positions, dy, dwpe, {}); }),
            "[embedding_backward] token id 3 at row 0 is outside [0, 3)");
}

TEST(AdamW, AgreesWithDoublePrecision) {
  const std::int64_t n = 5000;
  Tensor p = random_tensor({n}, 1), m = Tensor::zeros({n}), v = Tensor::zeros({n});
  std::vector<double> dp = doubles(p), dm(dp.size()), dv(dp.size());
  const AdamWStep options{.learning_rate = 0.01,
                          .beta1 = 0.9,
                          .beta2 = 0.95,
                          .epsilon = 1e-8,
                          .weight_decay = 0.1,
                          .gradient_scale = 0.5};
  for (std::int64_t t = 1; t <= 3; ++t) {
    const Tensor g = random_tensor({n}, 10 + static_cast<std::uint64_t>(t));
    AdamWStep step = options;
    step.step = t;
    adamw(p, g, m, v, step);
    const double correct1 = 1 - std::pow(0.9, static_cast<double>(t)),
                 correct2 = 1 - std::pow(0.95, static_cast<double>(t));
    for (std::size_t i = 0; i < dp.size(); ++i) {
      const double gi = 0.5 * static_cast<double>(g.span<float>()[i]);
      dm[i] = 0.9 * dm[i] + 0.1 * gi;
      dv[i] = 0.95 * dv[i] + 0.05 * gi * gi;
      dp[i] = dp[i] * (1 - 0.01 * 0.1) - 0.01 * (dm[i] / correct1) / (std::sqrt(dv[i] / correct2) + 1e-8);
      // The update is off by some roundings of itself, the parameter by one for each of three operations.
      ASSERT_NEAR(p.span<float>()[i], dp[i], static_cast<double>(t) * 0x1p-24 * (3 * std::abs(dp[i]) + 0.2))
          << i;
    }
  }
}

// What PyTorch 1.13 made of these numbers in three steps of torch.optim.AdamW(lr=1e-3, betas=(0.9, 0.95), eps=1e-8,
// weight_decay=0.1) on a CPU with AVX2.
TEST(AdamW, HasTorchsBits) {
  constexpr std::int64_t kCount = 16;
  constexpr std::array<std::uint32_t, kCount> kParameter = {
      0xbf06205c, 0xbe848e22, 0x3c0c9c39, 0x3ed33b51, 0xbf659ab7, 0xbe849704, 0x3f0cb02d, 0x3dec2f5f,
      0xbf7769ab, 0x3e900571, 0xbefe6a9f, 0xbe1e6d25, 0x3e3cbfe9, 0x3f2d08c0, 0xbf07b92b, 0x3f76aef1};
  constexpr std::array<std::uint32_t, kCount> kFirstMoment = {
      0xbc479775, 0xbb3fc9ae, 0x3c08d125, 0xbba169fb, 0xbbde31df, 0xb9e596c2, 0x3b0cf48f, 0xbc947918,
      0x3b42301a, 0xbbc6b23a, 0xbc3e3112, 0x3b92b4ce, 0xbc47a1f8, 0xbbcd72b2, 0xbbd06cf1, 0xbc5a69bd};
  constexpr std::array<std::uint32_t, kCount> kSecondMoment = {
      0x39971f1d, 0x38518116, 0x3a129718, 0x38614ec5, 0x3a0552af, 0x3a14d18f, 0x39b75a1d, 0x3a2b3ad1,
      0x39aef13a, 0x38b59daf, 0x3a19365f, 0x39f54bd4, 0x39971d6c, 0x3aa01b45, 0x3a2960a6, 0x3a2e016a};
  const auto numbers = [](std::uint32_t state, float scale) {
    Tensor t = Tensor::empty({kCount});
    for (float& x : t.span<float>()) {
      state = state * 1664525 + 1013904223;
      x = (static_cast<float>(state >> 8) / 0x1p24f - 0.5f) * 2 * scale;
    }
    return t;
  };
  const auto bits_of = [](const Tensor& t) {
    std::array<std::uint32_t, kCount> bits;
    std::memcpy(bits.data(), t.view().raw(), sizeof bits);
    return bits;
  };
  Tensor p = numbers(1, 1), m = Tensor::zeros({kCount}), v = Tensor::zeros({kCount});
  for (std::int64_t t = 1; t <= 3; ++t)
    adamw(p, numbers(static_cast<std::uint32_t>(99 + t), 0.1f), m, v,
          {.learning_rate = 1e-3,
           .beta1 = 0.9,
           .beta2 = 0.95,
           .epsilon = 1e-8,
           .weight_decay = 0.1,
           .step = t});
  EXPECT_EQ(bits_of(p), kParameter);
  EXPECT_EQ(bits_of(m), kFirstMoment);
  EXPECT_EQ(bits_of(v), kSecondMoment);
}

TEST(SumOfSquares, AddsInDoubleAndDoesNotDependOnThreads) {
  const Tensor x = random_tensor({100'003}, 1);
  double expected = 0;
  for (const float v : x.span<float>()) expected += static_cast<double>(v) * static_cast<double>(v);
  set_num_threads(1);
  const double alone = sum_of_squares(x);
  EXPECT_NEAR(alone, expected, expected * (4096 / 16 + 4) * 0x1p-24);
  set_num_threads(3);
  EXPECT_EQ(sum_of_squares(x), alone);
  set_num_threads(0);
}

}  // namespace
}  // namespace gpt::ops
