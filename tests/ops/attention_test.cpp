#include "gpt/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "ops/attention_cache.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::AttentionCache;
using gpt::test::random_tensor;
using gpt::test::same_bits;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor attend_whole(const Tensor& qkv, const AttentionShape& shape, AttentionCache& cache) {
  Tensor y = Tensor::empty({qkv.dim(0), shape.n_head * shape.head_dim});
  const AttentionSpan span = cache.span(0, qkv.dim(0), 0);
  attention(qkv, {&span, 1}, shape, y);
  return y;
}

Tensor attend_whole(const Tensor& qkv, const AttentionShape& shape, DType dtype = DType::f32) {
  AttentionCache cache(shape.n_head, shape.head_dim, qkv.dim(0), dtype);
  return attend_whole(qkv, shape, cache);
}

std::string type_name(const ::testing::TestParamInfo<DType>& info) {
  return std::string(name_of(info.param));
}

class AttentionOverCache : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, AttentionOverCache, ::testing::ValuesIn(test::kCacheTypes), type_name);

// What the cache holds after the call is what counts: the rounding to its type is tested below.
void expect_softmax_in_double(const AttentionShape& shape, std::int64_t tokens, DType dtype) {
  const std::int64_t d = shape.n_head * shape.head_dim;
  const Tensor qkv = random_tensor({tokens, 3 * d}, 1);
  AttentionCache cache(shape.n_head, shape.head_dim, tokens, dtype);
  const Tensor y = attend_whole(qkv, shape, cache);
  const auto scale = static_cast<double>(shape.scale);
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t h = 0; h < shape.n_head; ++h) {
      const float* q = qkv.data<float>() + t * 3 * d + h * shape.head_dim;
      std::vector<double> p(static_cast<std::size_t>(t + 1));
      double total = 0, largest = 0;  // largest: of the sums of |q_d k_d|, scaled
      for (std::int64_t j = 0; j <= t; ++j) {
        double s = 0, size = 0;
        for (std::int64_t i = 0; i < shape.head_dim; ++i) {
          const double product = static_cast<double>(q[i]) * cache.key(h, j, i);
          s += product;
          size += std::abs(product);
        }
        total += p[static_cast<std::size_t>(j)] = std::exp(s * scale);
        largest = std::max(largest, size * scale);
      }
      // In units of 2^-24. A score: a chain of head_dim, up to three products more, the subtraction of m. Its weight: e^x
      // within 4 units. For each block of keys a correction: the subtraction, 4 units, a product. All that twice, for
      // numerator and denominator, whose sums take t + 1 and 4 blocks + 4 steps. Then the quotient.
      const double keys = static_cast<double>(t + 1), blocks = keys / 64 + 1;
      const double score = (static_cast<double>(shape.head_dim) + 5) * largest;
      const double units = 2 * (score + 5 + blocks * (5 + 2 * largest)) + keys + 4 * blocks + 5;
      for (std::int64_t i = 0; i < shape.head_dim; ++i) {
        double expected = 0, size = 0;
        for (std::int64_t j = 0; j <= t; ++j) {
          const double v = cache.value(h, j, i);
          expected += p[static_cast<std::size_t>(j)] / total * v;
          size += p[static_cast<std::size_t>(j)] / total * std::abs(v);
        }
        ASSERT_NEAR(y.data<float>()[t * d + h * shape.head_dim + i], expected, units * 0x1p-24 * size)
            << "token " << t << " head " << h << " element " << i;
      }
    }
}

TEST_P(AttentionOverCache, AgreesWithSoftmaxInDoublePrecision) {
  expect_softmax_in_double({3, 20, 0.25f}, 150, GetParam());
  expect_softmax_in_double({2, 64, 0.125f}, 200, GetParam());
}

TEST_P(AttentionOverCache, TakesHeadsOfAnyWidth) {
  for (const std::int64_t head_dim : {1, 15, 16, 17, 65, 128, 144, 200})
    expect_softmax_in_double({2, head_dim, 0.1f}, 70, GetParam());
}

TEST_P(AttentionOverCache, RoundsKeysAndValuesToItsType) {
  const DType dtype = GetParam();
  const AttentionShape shape{2, 20, 0.25f};
  constexpr std::int64_t kT = 37;  // two whole groups and a part
  const Tensor qkv = random_tensor({kT, 3 * 40}, 2, DType::f32, 3.0f);
  AttentionCache cache(shape.n_head, shape.head_dim, kT, dtype);
  attend_whole(qkv, shape, cache);
  for (std::int64_t t = 0; t < kT; ++t)
    for (std::int64_t h = 0; h < shape.n_head; ++h)
      for (const int which : {0, 1}) {
        const float* x = qkv.data<float>() + t * 3 * 40 + (1 + which) * 40 + h * 20;
        float m = 0;
        for (int i = 0; i < 20; ++i) m = std::max(m, std::abs(x[i]));
        EXPECT_EQ(cache.scale(which, h, t), dtype == DType::i8 ? static_cast<double>(m / 127) : 1.0);
        for (int i = 0; i < 20; ++i) {
          const double held = which == 0 ? cache.key(h, t, i) : cache.value(h, t, i);
          double expected = static_cast<double>(x[i]);
          if (dtype == DType::f16) expected = static_cast<double>(static_cast<float>(Float16(x[i])));
          if (dtype == DType::bf16) expected = static_cast<double>(static_cast<float>(BFloat16(x[i])));
          if (dtype == DType::i8)
            expected = std::nearbyint(static_cast<double>(x[i] * (127 / m))) * static_cast<double>(m / 127);
          EXPECT_EQ(held, expected) << "token " << t << " head " << h << " element " << i;
        }
      }
}

/// A sequence in calls of `step` rows each.
Tensor attend_in_steps(const Tensor& qkv, const AttentionShape& shape, AttentionCache& cache,
                       std::int64_t step) {
  const std::int64_t tokens = qkv.dim(0), d = shape.n_head * shape.head_dim;
  Tensor y = Tensor::empty({tokens, d});
  for (std::int64_t past = 0; past < tokens; past += step) {
    const std::int64_t rows = std::min(step, tokens - past);
    const ConstTensorView part(qkv.data<float>() + past * 3 * d, {rows, 3 * d});
    const AttentionSpan span = cache.span(0, rows, past);
    attention(part, {&span, 1}, shape, TensorView(y.data<float>() + past * d, {rows, d}));
  }
  return y;
}

// On other instruction sets than the fastest some of these values must do.
std::vector<std::int64_t> all_or(std::vector<std::int64_t> all, std::vector<std::int64_t> some) {
  return gpt::test::on_the_fastest_isa() ? all : some;
}

TEST_P(AttentionOverCache, DoesNotDependOnHowTheSequenceIsCutIntoCalls) {
  for (const AttentionShape& shape : {AttentionShape{2, 24, 0.2f}, {1, 64, 0.125f}, {1, 150, 0.1f}}) {
    constexpr std::int64_t kT = 205;
    const std::int64_t d = shape.n_head * shape.head_dim;
    const Tensor qkv = random_tensor({kT, 3 * d}, 2);
    const Tensor whole = attend_whole(qkv, shape, GetParam());
    for (const std::int64_t step : all_or({1, 2, 3, 7, 16, 47, 48, 49, 63, 64, 65, 129}, {1, 47, 64, 129})) {
      AttentionCache cache(shape.n_head, shape.head_dim, kT, GetParam());
      const Tensor y = attend_in_steps(qkv, shape, cache, step);
      EXPECT_TRUE(same_bits(whole, y)) << "head_dim " << shape.head_dim << " in steps of " << step;
    }
  }
}

TEST_P(AttentionOverCache, DoesNotDependOnHowItIsDividedIntoPages) {
  for (const AttentionShape& shape : {AttentionShape{2, 24, 0.2f}, {1, 64, 0.125f}, {1, 150, 0.1f}}) {
    constexpr std::int64_t kT = 205;
    const std::int64_t d = shape.n_head * shape.head_dim;
    const Tensor qkv = random_tensor({kT, 3 * d}, 9);
    const Tensor whole = attend_whole(qkv, shape, GetParam());
    for (const std::int64_t page : all_or({16, 32, 48, 64, 80, 128, 208}, {16, 48})) {
      for (const std::int64_t step : all_or({1, 2, 50, 205}, {1, 50})) {
        AttentionCache cache(shape.n_head, shape.head_dim, kT, GetParam(), page);
        const Tensor y = attend_in_steps(qkv, shape, cache, step);
        EXPECT_TRUE(same_bits(whole, y))
            << "head_dim " << shape.head_dim << ", pages of " << page << " in steps of " << step;
      }
    }
  }
}

TEST_P(AttentionOverCache, GivesASequenceInABatchWhatItGetsAlone) {
  const AttentionShape shape{2, 8, 0.35f};
  // The first parts, then all of them go on in one call: one token, a few, many, none, and one that begins.
  constexpr std::int64_t kPast[] = {70, 5, 33, 20, 0}, kRows[] = {1, 4, 130, 0, 60};
  std::vector<AttentionCache> caches;
  std::vector<Tensor> inputs;
  std::vector<AttentionSpan> spans;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < std::size(kPast); ++i) {
    const std::int64_t tokens = kPast[i] + kRows[i];
    inputs.push_back(random_tensor({tokens, 3 * 16}, 3 + i));
    caches.emplace_back(shape.n_head, shape.head_dim, tokens, GetParam());
    Tensor y = Tensor::empty({kPast[i], 16});
    const AttentionSpan first = caches.back().span(0, kPast[i], 0);
    attention(ConstTensorView(inputs[i].data<float>(), {kPast[i], 48}), {&first, 1}, shape, y);
    spans.push_back(caches.back().span(row, kRows[i], kPast[i]));
    row += kRows[i];
  }
  Tensor qkv = Tensor::empty({row, 48}), y = Tensor::empty({row, 16});
  for (std::size_t i = 0; i < spans.size(); ++i)
    std::copy_n(inputs[i].data<float>() + kPast[i] * 48, kRows[i] * 48,
                qkv.data<float>() + spans[i].row * 48);
  attention(qkv, spans, shape, y);
  Tensor some = Tensor::zeros({row, 16});
  constexpr std::int64_t kSkipped[] = {1, 3, 0, 0, 60};
  for (std::size_t i = 0; i < spans.size(); ++i) spans[i].skipped = kSkipped[i];
  attention(qkv, spans, shape, some);
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::int64_t first = spans[i].row + kSkipped[i], left = kRows[i] - kSkipped[i];
    EXPECT_TRUE(same_bits(ConstTensorView(y.data<float>() + first * 16, {left, 16}),
                          ConstTensorView(some.data<float>() + first * 16, {left, 16})))
        << "sequence " << i;
    const Tensor alone = attend_whole(inputs[i], shape, GetParam());
    EXPECT_TRUE(same_bits(ConstTensorView(alone.data<float>() + kPast[i] * 16, {kRows[i], 16}),
                          ConstTensorView(y.data<float>() + spans[i].row * 16, {kRows[i], 16})))
        << "sequence " << i;
  }
}

TEST_P(AttentionOverCache, LeavesOutResultsThatNobodyNeeds) {
  const AttentionShape shape{2, 24, 0.2f};
  constexpr std::int64_t kT = 130, kD = 48, kPast = 20;
  const Tensor qkv = random_tensor({kT, 3 * kD}, 6);
  AttentionCache expected_cache(shape.n_head, shape.head_dim, kT, GetParam());
  expected_cache.clear();
  const Tensor expected = attend_whole(qkv, shape, expected_cache);
  for (const std::int64_t past : {std::int64_t{0}, kPast})
    for (const std::int64_t skipped : {0, 1, 43, 44, 47, 64, 109, 110}) {
      AttentionCache cache(shape.n_head, shape.head_dim, kT, GetParam());
      cache.clear();
      Tensor y = random_tensor({kT, kD}, 7);
      const Tensor before = random_tensor({kT, kD}, 7);
      AttentionSpan first = cache.span(0, past, 0), rest = cache.span(past, kT - past, past);
      first.skipped = past;  // all of them: only keys and values are put away
      rest.skipped = skipped;
      attention(qkv, {&first, 1}, shape, y);
      attention(qkv, {&rest, 1}, shape, y);
      const auto rows = [](const Tensor& of, std::int64_t begin, std::int64_t end) {
        return ConstTensorView(of.data<float>() + begin * kD, {end - begin, kD});
      };
      const std::int64_t needed = past + skipped;
      EXPECT_TRUE(same_bits(rows(before, 0, needed), rows(y, 0, needed))) << past << " " << skipped;
      EXPECT_TRUE(same_bits(rows(expected, needed, kT), rows(y, needed, kT))) << past << " " << skipped;
      for (std::size_t i = 0; i < cache.pages().size(); ++i)
        EXPECT_TRUE(same_bits(expected_cache.pages()[i], cache.pages()[i])) << past << " " << skipped;
    }
}

TEST_P(AttentionOverCache, DoesNotDependOnTheNumberOfThreads) {
  const AttentionShape shape{4, 32, 0.25f};  // enough work for each thread (ops/checks.h, grain_for)
  const Tensor qkv = random_tensor({401, 3 * 128}, 5);
  set_num_threads(1);
  const Tensor one = attend_whole(qkv, shape, GetParam());
  for (const int threads : {2, 3, 7}) {
    set_num_threads(threads);
    EXPECT_TRUE(same_bits(one, attend_whole(qkv, shape, GetParam()))) << threads;
  }
  set_num_threads(0);
}

TEST_P(AttentionOverCache, SkipsKeysBehindTheQueryWhateverTheyHold) {
  for (const std::int64_t d : {8, 80}) {
    const AttentionShape shape{1, d, d == 8 ? 1.0f : 0.1f};
    constexpr std::int64_t kT = 80;
    Tensor qkv = random_tensor({kT, 3 * d}, 4);
    const Tensor expected = attend_whole(qkv, shape, GetParam());
    for (const std::int64_t seen : {1, 5, 16, 49, 63, 70}) {
      Tensor broken = qkv.clone();
      for (std::int64_t t = seen; t < kT; ++t)
        for (std::int64_t i = d; i < 3 * d; ++i)
          broken.data<float>()[t * 3 * d + i] = i % 2 == 0 ? kNaN : kInfinity;
      const Tensor y = attend_whole(broken, shape, GetParam());
      EXPECT_TRUE(same_bits(ConstTensorView(expected.data<float>(), {seen, d}),
                            ConstTensorView(y.data<float>(), {seen, d})))
          << d << " " << seen;
      for (std::int64_t i = seen * d; i < kT * d; ++i)
        EXPECT_TRUE(std::isnan(y.data<float>()[i])) << d << " " << i;
    }
  }
}

TEST_P(AttentionOverCache, ReportsANumberThatIsNoneThroughEveryLaterToken) {
  const AttentionShape shape{2, 24, 0.3f};
  constexpr std::int64_t kT = 150, kD = 48;
  const Tensor qkv = random_tensor({kT, 3 * kD}, 6);
  const Tensor expected = attend_whole(qkv, shape, GetParam());
  for (const std::int64_t bad : {0, 3, 17, 64, 149})
    for (const int which : {0, 1, 2}) {  // in the query, key or value of head 1
      Tensor broken = qkv.clone();
      broken.data<float>()[bad * 3 * kD + which * kD + 24 + 7] = kNaN;
      const Tensor y = attend_whole(broken, shape, GetParam());
      for (std::int64_t t = 0; t < kT; ++t)
        for (std::int64_t i = 0; i < kD; ++i) {
          const float got = y.data<float>()[t * kD + i], clean = expected.data<float>()[t * kD + i];
          const bool sees = i >= 24 && (which == 0 ? t == bad : t >= bad);
          const bool whole_head = which < 2 || GetParam() == DType::i8;
          if (sees && (whole_head || i == 24 + 7))
            EXPECT_TRUE(std::isnan(got)) << bad << " " << which << " token " << t << " element " << i;
          else
            EXPECT_EQ(got, clean) << bad << " " << which << " token " << t << " element " << i;
        }
    }
}

TEST_P(AttentionOverCache, IsOfZerosWhereAllValuesAreZero) {
  const AttentionShape shape{1, 16, 1.0f};
  const Tensor qkv = Tensor::zeros({70, 48});
  const Tensor y = attend_whole(qkv, shape, GetParam());
  EXPECT_TRUE(same_bits(Tensor::zeros({70, 16}), y));
}

TEST(Int8Cache, HoldsNumbersOfAnySize) {
  const AttentionShape shape{1, 16, 0.0f};  // equal weights
  for (const float size : {1e-44f, 1e-38f, 1e-30f, 1.0f, 1e30f, 3e38f}) {
    Tensor qkv = Tensor::zeros({1, 48});
    for (int i = 0; i < 16; ++i) qkv.data<float>()[32 + i] = size * (static_cast<float>(i - 8) / 8);
    const Tensor y = attend_whole(qkv, shape, DType::i8);
    const float step = std::max(size, 0x1p-100f) / 127;
    for (int i = 0; i < 16; ++i)
      EXPECT_NEAR(y.data<float>()[i], qkv.data<float>()[32 + i], 0.501f * step) << size;
  }
}

TEST(Int8Cache, DoesNotTurnInfinityIntoANumber) {
  const AttentionShape shape{1, 16, 1.0f};
  for (const int which : {1, 2}) {
    Tensor qkv = random_tensor({40, 48}, 7);
    qkv.data<float>()[20 * 48 + which * 16 + 3] = -kInfinity;
    const Tensor y = attend_whole(qkv, shape, DType::i8);
    for (std::int64_t i = 20 * 16; i < 40 * 16; ++i) EXPECT_TRUE(std::isnan(y.data<float>()[i])) << i;
  }
}

TEST(Attention, GivesKeysAtMinusInfinityNoWeight) {
  const AttentionShape shape{1, 8, 1.0f};
  constexpr std::int64_t kFirst = 70;  // more than a block
  Tensor qkv = random_tensor({100, 24}, 8);
  for (std::int64_t t = 0; t < 100; ++t) qkv.data<float>()[t * 24] = 1.0f;
  for (std::int64_t t = 0; t < kFirst; ++t) qkv.data<float>()[t * 24 + 8] = -kInfinity;
  const Tensor y = attend_whole(qkv, shape);
  for (std::int64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(std::isnan(y.data<float>()[(kFirst - 1) * 8 + i]));  // 0 / 0, as in the formula
    EXPECT_EQ(y.data<float>()[kFirst * 8 + i], qkv.data<float>()[kFirst * 24 + 16 + i]);  // one key is left
  }
}

TEST(Attention, RefusesRowsOutsideItsInput) {
  const AttentionShape shape{1, 8, 1.0f};
  const Tensor qkv = random_tensor({5, 24}, 4);
  AttentionCache cache(1, 8, 16);
  Tensor y = Tensor::empty({5, 8});
  const AttentionSpan span = cache.span(3, 4, 0);
  EXPECT_EQ(test::message_of<ShapeError>([&] {
              attention(qkv, {&span, 1}, shape, y);
            }),
            "[attention] rows [3, 7) are outside qkv's 5");
  AttentionSpan skipping = cache.span(0, 5, 0);
  skipping.skipped = 6;
  EXPECT_EQ(test::message_of<ShapeError>([&] {
              attention(qkv, {&skipping, 1}, shape, y);
            }),
            "[attention] skipped is 6, expected 0 to the sequence's 5 rows");
}

TEST(Attention, SkipsNoRowsWithDropoutOrForGradients) {
  AttentionShape shape{1, 8, 1.0f};
  const Tensor qkv = random_tensor({5, 24}, 4);
  AttentionCache cache(1, 8, 16);
  Tensor y = Tensor::empty({5, 8}), statistics = Tensor::empty({5, 1, 2}), dqkv = Tensor::empty({5, 24});
  AttentionSpan span = cache.span(0, 5, 0);
  span.skipped = 2;
  Arena arena;
  test::expect_error<ShapeError>(
      [&] {
        attention_backward(qkv, {&span, 1}, shape, y, statistics, y, dqkv, arena);
      },
      {"a sequence has 2 skipped rows"});
  shape.dropout.rate = 0.5f;
  test::expect_error<UnsupportedError>(
      [&] {
        attention(qkv, {&span, 1}, shape, y);
      },
      {"dropout in a sequence with skipped rows"});
}

TEST(Attention, RefusesACacheThatIsTooSmallOrOfAnotherType) {
  const AttentionShape shape{1, 8, 1.0f};
  const Tensor qkv = random_tensor({5, 24}, 4);
  AttentionCache cache(1, 8, 16, DType::i8);
  Tensor y = Tensor::empty({5, 8});
  const auto message = [&](auto&& change) {
    AttentionSpan span = cache.span(0, 5, 0);
    change(span);
    return test::message_of<ShapeError>([&] { attention(qkv, {&span, 1}, shape, y); });
  };
  EXPECT_EQ(message([](AttentionSpan& s) { s.past = 12; }),
            "[attention] 12 cached and 5 new tokens in a cache of capacity 16");
  EXPECT_EQ(message([](AttentionSpan& s) { s.cache.page_tokens = 8; }),
            "[attention] a cache has pages of 8 tokens, expected a multiple of 16");
  EXPECT_EQ(message([](AttentionSpan& s) { s.cache.pages = nullptr; }),
            "[attention] a sequence has no cache");
  EXPECT_EQ(message([](AttentionSpan& s) { s.cache.dtype = DType::f64; }),
            "[attention] a cache is float64, expected float32, float16, bfloat16 or int8");
}

// What attention itself does not hold, by its definition.
TEST(AttentionProbabilities, AreTheSoftmaxOfTheScores) {
  const AttentionShape shape{3, 20, 0.25f};
  constexpr std::int64_t kT = 40, kD = 60;
  const Tensor qkv = random_tensor({kT, 3 * kD}, 1);
  Tensor found = Tensor::empty({3, kT, kT});
  attention_probabilities(qkv, shape, found);
  const auto at = [&](std::int64_t t, std::int64_t column) {
    return static_cast<double>(qkv.data<float>()[t * 3 * kD + column]);
  };
  for (std::int64_t h = 0; h < 3; ++h)
    for (std::int64_t t = 0; t < kT; ++t) {
      std::vector<double> p(kT);
      double total = 0, largest = 0;
      for (std::int64_t j = 0; j <= t; ++j) {
        double s = 0, size = 0;
        for (std::int64_t i = h * 20; i < (h + 1) * 20; ++i) {
          s += at(t, i) * at(j, kD + i);
          size += std::abs(at(t, i) * at(j, kD + i));
        }
        total += p[static_cast<std::size_t>(j)] = std::exp(0.25 * s);
        largest = std::max(largest, 0.25 * size);
      }
      // A score: a chain of 20 and a product, each within 2^-24 of the sum of sizes, in numerator and denominator; one rounding.
      const double tolerance = (2 * 21 * largest + 1) * 0x1p-24;
      for (std::int64_t j = 0; j < kT; ++j) {
        const double expected = p[static_cast<std::size_t>(j)] / total;
        ASSERT_NEAR(found.data<float>()[(h * kT + t) * kT + j], expected, tolerance * expected)
            << t << " " << j;
      }
    }
}

TEST(AttentionProbabilities, HaveTheSameBitsOnAnyNumberOfThreads) {
  const AttentionShape shape{4, 64, 0.125f};
  const Tensor qkv = random_tensor({130, 3 * 256}, 1);
  Tensor one = Tensor::empty({4, 130, 130}), more = Tensor::empty(one.shape());
  set_num_threads(1);
  attention_probabilities(qkv, shape, one);
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    attention_probabilities(qkv, shape, more);
    EXPECT_TRUE(same_bits(one, more)) << threads;
  }
  set_num_threads(0);
}

}  // namespace
}  // namespace gpt::ops
