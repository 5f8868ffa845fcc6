#include "gpt/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

/// One layer of a cache.
struct Cache {
  Cache(const AttentionShape& shape, std::int64_t tokens)
      : keys(Tensor::zeros({(tokens + 15) / 16, shape.n_head, padded_head_dim(shape.head_dim), 16})),
        values(Tensor::zeros({(tokens + 15) / 16 * 16, shape.n_head, padded_head_dim(shape.head_dim)})) {}
  AttentionSpan span(std::int64_t row, std::int64_t rows, std::int64_t past) {
    return {row, rows, past, keys.data<float>(), values.data<float>()};
  }
  Tensor keys, values;
};

Tensor attend_whole(const Tensor& qkv, const AttentionShape& shape) {
  Cache cache(shape, qkv.dim(0));
  Tensor y = Tensor::empty({qkv.dim(0), shape.n_head * shape.head_dim});
  const AttentionSpan span = cache.span(0, qkv.dim(0), 0);
  attention(qkv, {&span, 1}, shape, y);
  return y;
}

TEST(Attention, AgreesWithSoftmaxInDoublePrecision) {
  const AttentionShape shape{3, 20, 0.25f};
  constexpr std::int64_t kT = 150;
  const std::int64_t d = shape.n_head * shape.head_dim;
  const Tensor qkv = random_tensor({kT, 3 * d}, 1);
  const Tensor y = attend_whole(qkv, shape);
  const float* in = qkv.data<float>();
  for (std::int64_t t = 0; t < kT; ++t)
    for (std::int64_t h = 0; h < shape.n_head; ++h) {
      std::vector<double> p(static_cast<std::size_t>(t + 1));
      double total = 0;
      for (std::int64_t j = 0; j <= t; ++j) {
        double s = 0;
        for (std::int64_t i = 0; i < shape.head_dim; ++i)
          s += static_cast<double>(in[t * 3 * d + h * shape.head_dim + i]) *
               static_cast<double>(in[j * 3 * d + d + h * shape.head_dim + i]);
        total += p[static_cast<std::size_t>(j)] = std::exp(s * 0.25);
      }
      for (std::int64_t i = 0; i < shape.head_dim; ++i) {
        double expected = 0, size = 0;
        for (std::int64_t j = 0; j <= t; ++j) {
          const double v = static_cast<double>(in[j * 3 * d + 2 * d + h * shape.head_dim + i]);
          expected += p[static_cast<std::size_t>(j)] / total * v;
          size += p[static_cast<std::size_t>(j)] / total * std::abs(v);
        }
        // Scores are below 16 in size: their rounding moves e^s by 20 * 16 units, the sums add up to T more.
        ASSERT_NEAR(y.data<float>()[t * d + h * shape.head_dim + i], expected,
                    (20 * 16 + kT) * 0x1p-24 * size);
      }
    }
}

TEST(Attention, DoesNotDependOnHowTheSequenceIsCutIntoCalls) {
  const AttentionShape shape{2, 24, 0.2f};
  constexpr std::int64_t kT = 140;
  const Tensor qkv = random_tensor({kT, 3 * 48}, 2);
  const Tensor whole = attend_whole(qkv, shape);
  for (const std::int64_t step : {1, 3, 16, 63, 64, 65}) {
    Cache cache(shape, kT);
    Tensor y = Tensor::empty(whole.shape());
    for (std::int64_t past = 0; past < kT; past += step) {
      const std::int64_t rows = std::min(step, kT - past);
      const ConstTensorView part(qkv.data<float>() + past * 3 * 48, {rows, 3 * 48});
      const AttentionSpan span = cache.span(0, rows, past);
      attention(part, {&span, 1}, shape, TensorView(y.data<float>() + past * 48, {rows, 48}));
    }
    EXPECT_TRUE(same_bits(whole, y)) << "in steps of " << step;
  }
}

TEST(Attention, GivesASequenceInABatchWhatItGetsAlone) {
  const AttentionShape shape{2, 8, 0.35f};
  const Tensor qkv = random_tensor({30, 3 * 16}, 3);
  Cache first(shape, 30), second(shape, 30);
  const AttentionSpan spans[] = {first.span(0, 11, 0), second.span(11, 19, 0)};
  Tensor y = Tensor::empty({30, 16});
  attention(qkv, spans, shape, y);
  for (const AttentionSpan& s : spans) {
    Tensor part = Tensor::empty({s.rows, 3 * 16});
    std::copy_n(qkv.data<float>() + s.row * 48, s.rows * 48, part.data<float>());
    const Tensor alone = attend_whole(part, shape);
    EXPECT_TRUE(same_bits(alone, ConstTensorView(y.data<float>() + s.row * 16, {s.rows, 16})));
  }
}

TEST(Attention, SkipsKeysBehindTheQueryWhateverTheyHold) {
  const AttentionShape shape{1, 8, 1.0f};
  const Tensor qkv = random_tensor({5, 24}, 4);
  const Tensor expected = attend_whole(qkv, shape);
  Cache cache(shape, 64);
  for (float& f : cache.keys.span<float>()) f = std::numeric_limits<float>::quiet_NaN();
  for (float& f : cache.values.span<float>()) f = std::numeric_limits<float>::quiet_NaN();
  Tensor y = Tensor::empty({5, 8});
  const AttentionSpan span = cache.span(0, 5, 0);
  attention(qkv, {&span, 1}, shape, y);
  EXPECT_TRUE(same_bits(expected, y));
}

TEST(Attention, DoesNotDependOnTheNumberOfThreads) {
  const AttentionShape shape{4, 32, 0.25f};  // enough work for each thread (ops/checks.h, grain_for)
  const Tensor qkv = random_tensor({401, 3 * 128}, 5);
  set_num_threads(1);
  const Tensor one = attend_whole(qkv, shape);
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    EXPECT_TRUE(same_bits(one, attend_whole(qkv, shape))) << threads;
  }
  set_num_threads(0);
}

TEST(Attention, RefusesRowsOutsideItsInput) {
  const AttentionShape shape{1, 8, 1.0f};
  const Tensor qkv = random_tensor({5, 24}, 4);
  Cache cache(shape, 16);
  Tensor y = Tensor::empty({5, 8});
  const AttentionSpan span = cache.span(3, 4, 0);
  EXPECT_EQ(test::message_of<ShapeError>([&] {
              attention(qkv, {&span, 1}, shape, y);
            }),
            "[attention] rows [3, 7) are outside qkv's 5");
}

}  // namespace
}  // namespace gpt::ops
