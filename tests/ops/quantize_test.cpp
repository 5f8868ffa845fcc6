// Quantization against exhaustive searches and plain rounding.
#include "gpt/ops/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::ops {
namespace {

using gpt::test::expect_error;
using gpt::test::plain_weight;
using gpt::test::random_tensor;
using gpt::test::same_bits;

constexpr QuantizationFormat kFormats[] = {
    {.format = WeightFormat::int8, .group_size = 32},
    {.format = WeightFormat::int8, .group_size = 0},
    {.format = WeightFormat::int4, .group_size = 32},
    {.format = WeightFormat::int4, .group_size = 64},
    {.format = WeightFormat::int4, .group_size = 0},
    {.format = WeightFormat::int4, .group_size = 32, .symmetric = false},
    {.format = WeightFormat::int4, .group_size = 128, .symmetric = false},
    {.format = WeightFormat::int4, .group_size = 0, .symmetric = false}};

std::string describe(const QuantizationFormat& f) {
  return concat(name_of(f.format), " group_size ", f.group_size, f.symmetric ? "" : " asymmetric");
}

Weight quantized(const Tensor& w, WeightLayout layout, const QuantizationFormat& f,
                 const std::vector<float>& importance = {}) {
  return quantize("w", plain_weight(w, layout), f, importance);
}

double square(double x) { return x * x; }

/// sum of importance (w - value)^2 over inputs [first, last) of output n; both [N, K].
double error_of(const Tensor& w, const Tensor& values, std::int64_t n, std::int64_t first, std::int64_t last,
                const std::vector<float>& importance = {}) {
  double sum = 0;
  for (std::int64_t k = first; k < last; ++k) {
    const auto at = static_cast<std::size_t>(n * w.dim(1) + k);
    const double h = importance.empty() ? 1.0 : static_cast<double>(importance[static_cast<std::size_t>(k)]);
    sum +=
        h * square(static_cast<double>(w.span<float>()[at]) - static_cast<double>(values.span<float>()[at]));
  }
  return sum;
}

/// The least error that `scale` allows: every weight at its nearest level, found by trying the two around it.
double error_with_scale(const Tensor& w, std::int64_t n, double scale, int low, int high,
                        const std::vector<float>& importance, double give_up) {
  double sum = 0;
  for (std::int64_t k = 0; k < w.dim(1) && sum < give_up; ++k) {
    const auto x = static_cast<double>(w.data<float>()[n * w.dim(1) + k]);
    const double level = std::clamp(std::nearbyint(x / scale), double(low), double(high));
    sum += (importance.empty() ? 1.0 : static_cast<double>(importance[static_cast<std::size_t>(k)])) *
           square(x - scale * level);
  }
  return sum;
}

/// The least error of all scales that a normal f16 can be (both signs), and all zero points if asked for.
double exhaustive(const Tensor& w, std::int64_t n, const QuantizationFormat& f,
                  const std::vector<float>& importance) {
  double least = std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::int64_t k = 0; k < w.dim(1); ++k)
    largest = std::max(largest, std::fabs(static_cast<double>(w.data<float>()[n * w.dim(1) + k])));
  for (unsigned bits = 0x0400; bits < 0x7c00; ++bits) {
    Float16 half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto scale = static_cast<double>(static_cast<float>(half));
    if (scale > largest || scale < largest / 1000) continue;
    const auto consider = [&](double s, int low, int high) {
      least = std::min(least, error_with_scale(w, n, s, low, high, importance, least));
    };
    if (f.format == WeightFormat::int8) {
      consider(scale, -127, 127);
    } else if (f.symmetric) {
      consider(scale, -8, 7);
      consider(-scale, -8, 7);
    } else {
      for (int zero = 0; zero <= 15; ++zero) consider(scale, -zero, 15 - zero);
    }
  }
  return least;
}

// The search need not find the best, but it must come close: int4 to 0.5 % of the error, on average over the groups, int8,
// which has many scales as good as one another, to 2 %. What is best for a few weights that count 36 times as much as the
// others is with int8 a matter of luck over a wide range: 10 %.
TEST(Quantize, ComesCloseToAnExhaustiveSearch) {
  constexpr std::int64_t kOut = 12, kIn = 32;
  const Tensor w = random_tensor({kOut, kIn}, 7, DType::f32, 0.05f);
  std::vector<float> importance(kIn);
  for (std::size_t k = 0; k < kIn; ++k) importance[k] = k % 5 == 0 ? 9.0f : 0.25f;
  for (const auto& weights : {std::vector<float>{}, importance})
    for (const QuantizationFormat& f : kFormats) {
      if (f.group_size != 32) continue;
      const Tensor got = dequantize(quantized(w, WeightLayout::kOutIn, f, weights), WeightLayout::kOutIn);
      double sum = 0, best = 0;
      for (std::int64_t n = 0; n < kOut; ++n) {
        const double error = error_of(w, got, n, 0, kIn, weights), least = exhaustive(w, n, f, weights);
        // A value is rounded to float32 once more, at most half a unit of it.
        EXPECT_GE(error, least * (1 - 1e-5)) << describe(f) << ": the exhaustive search missed output " << n;
        sum += error;
        best += least;
      }
      const double near = f.format == WeightFormat::int4 ? 1.005 : weights.empty() ? 1.02 : 1.1;
      EXPECT_LE(sum, near * best) << describe(f) << (weights.empty() ? "" : " weighted");
    }
}

/// What everybody does: the largest magnitude to the end of the range, the scale rounded to f16.
double plain_error(const Tensor& w, std::int64_t n, std::int64_t first, std::int64_t last,
                   const QuantizationFormat& f, const std::vector<float>& importance) {
  float least = 0, most = 0;
  for (std::int64_t k = first; k < last; ++k) {
    least = std::min(least, w.data<float>()[n * w.dim(1) + k]);
    most = std::max(most, w.data<float>()[n * w.dim(1) + k]);
  }
  float scale = 0, low = 0, high = 0;
  if (f.format == WeightFormat::int8) {
    scale = std::max(-least, most) / 127.0f, low = -127, high = 127;
  } else if (f.symmetric) {
    scale = (-least >= most ? least : most) / -8.0f, low = -8, high = 7;
  } else {
    scale = (most - least) / 15.0f;
  }
  scale = static_cast<float>(Float16(scale));
  if (!f.symmetric) low = -std::clamp(std::nearbyint(-least / scale), 0.0f, 15.0f), high = 15 + low;
  double sum = 0;
  for (std::int64_t k = first; k < last; ++k) {
    const float x = w.data<float>()[n * w.dim(1) + k];
    const float value = scale * std::clamp(std::nearbyint(x / scale), low, high);
    sum += (importance.empty() ? 1.0 : static_cast<double>(importance[static_cast<std::size_t>(k)])) *
           square(static_cast<double>(x) - static_cast<double>(value));
  }
  return sum;
}

TEST(Quantize, IsInNoGroupWorseThanPlainRounding) {
  constexpr std::int64_t kOut = 40, kIn = 300;  // the last groups and the last panel are short
  Tensor w = random_tensor({kOut, kIn}, 3, DType::f32, 0.1f);
  for (std::int64_t n = 0; n < kOut; n += 3) w.data<float>()[n * kIn + 11 * n % kIn] *= 9.0f;  // outliers
  std::vector<float> importance(kIn, 1.0f);
  for (std::size_t k = 0; k < kIn; ++k) importance[k] = static_cast<float>(k % 7);
  for (const auto& weights : {std::vector<float>{}, importance})
    for (const QuantizationFormat& f : kFormats) {
      const Tensor got = dequantize(quantized(w, WeightLayout::kOutIn, f, weights), WeightLayout::kOutIn);
      const std::int64_t size = f.group_size == 0 ? kIn : f.group_size;
      double sum = 0, plain_sum = 0;
      for (std::int64_t n = 0; n < kOut; ++n)
        for (std::int64_t k = 0; k < kIn; k += size) {
          const std::int64_t end = std::min(k + size, kIn);
          const double error = error_of(w, got, n, k, end, weights);
          const double plain = plain_error(w, n, k, end, f, weights);
          ASSERT_LE(error, plain * (1 + 1e-12)) << describe(f) << ", output " << n << ", input " << k;
          sum += error;
          plain_sum += plain;
        }
      EXPECT_LT(sum, plain_sum) << describe(f);
    }
}

TEST(Quantize, SpendsItsPrecisionWhereErrorsCostMost) {
  const Tensor w = random_tensor({16, 64}, 5);
  std::vector<float> importance(64, 0.01f);
  for (std::size_t k = 0; k < 64; k += 8) importance[k] = 1.0f;
  const QuantizationFormat f{.format = WeightFormat::int4, .group_size = 64};
  const auto error = [&](const std::vector<float>& used) {
    const Tensor got = dequantize(quantized(w, WeightLayout::kOutIn, f, used), WeightLayout::kOutIn);
    double sum = 0;
    for (std::int64_t n = 0; n < 16; ++n) sum += error_of(w, got, n, 0, 64, importance);
    return sum;
  };
  EXPECT_LT(error(importance), 0.9 * error({}));
}

// The range -8 .. 7 is longer on one side: here the side that the largest weight, of no importance, does not choose.
TEST(Quantize, GivesAScaleTheSignThatImportantWeightsNeed) {
  Tensor w = Tensor::empty({1, 32});
  std::vector<float> importance(32, 1.0f);
  for (std::int64_t k = 0; k < 32; ++k) w.data<float>()[k] = 0.25f * static_cast<float>(k % 16 - 8);
  w.data<float>()[20] = 2.2f;
  importance[20] = 0.0f;
  for (const float sign : {1.0f, -1.0f}) {
    for (float& v : w.span<float>()) v *= sign;
    const QuantizationFormat f{.format = WeightFormat::int4, .group_size = 32};
    const Tensor got = dequantize(quantized(w, WeightLayout::kOutIn, f, importance), WeightLayout::kOutIn);
    EXPECT_EQ(error_of(w, got, 0, 0, 32, importance), 0.0);
  }
}

TEST(Quantize, KeepsWhatTheFormatHoldsExactly) {
  for (const QuantizationFormat& f : kFormats) {
    const int low = f.format == WeightFormat::int8 ? -127 : f.symmetric ? -8 : -5;
    const int high = f.format == WeightFormat::int8 ? 127 : f.symmetric ? 7 : 10;
    Tensor w = Tensor::empty({20, 320});
    for (std::int64_t i = 0; i < w.numel(); ++i)  // every group of 32 has both ends of the range
      w.data<float>()[i] = 0.375f * static_cast<float>(i % 32 == 0   ? low
                                                       : i % 32 == 1 ? high
                                                                     : low + i * 7 % (high - low + 1));
    EXPECT_TRUE(same_bits(dequantize(quantized(w, WeightLayout::kOutIn, f), WeightLayout::kOutIn), w))
        << describe(f);
  }
}

TEST(Quantize, DoesNotDependOnLayoutElementTypeOrThreads) {
  constexpr std::int64_t kIn = 200, kOut = 83;
  const Tensor in_out = random_tensor({kIn, kOut}, 9, DType::bf16, 0.02f);
  const Tensor wide = in_out.to(DType::f32);
  Tensor out_in = Tensor::empty({kOut, kIn});
  for (std::int64_t k = 0; k < kIn; ++k)
    for (std::int64_t n = 0; n < kOut; ++n)
      out_in.data<float>()[n * kIn + k] = wide.data<float>()[k * kOut + n];
  for (const QuantizationFormat& f : kFormats) {
    const auto expect_same = [&](const Weight& a, const Weight& b) {
      EXPECT_TRUE(same_bits(a.values, b.values) && same_bits(a.scales, b.scales) &&
                  same_bits(a.zero_points, b.zero_points))
          << describe(f);
    };
    const Weight q = quantized(in_out, WeightLayout::kInOut, f);
    q.check("q");
    EXPECT_EQ(q.quantization(), f);
    EXPECT_EQ(q.file_layout, WeightLayout::kInOut);
    expect_same(q, quantize("w", pack(plain_weight(in_out, WeightLayout::kInOut)), f));
    expect_same(q, quantized(wide, WeightLayout::kInOut, f));
    expect_same(q, quantized(out_in, WeightLayout::kOutIn, f));
    for (const int threads : {1, 3}) {
      const ThreadLimit limit(threads);
      expect_same(q, quantized(in_out, WeightLayout::kInOut, f));
    }
  }
}

TEST(Quantize, PadsWithZeros) {
  Tensor w =
      random_tensor({17, 33}, 2);  // [N, K]: a panel with 15 outputs too many, a step with 7 inputs too many
  for (std::int64_t n = 0; n < 17; ++n)
    w.data<float>()[n * 33 + 32] = 2.0f;  // a group of one, large enough for f16
  const Weight q = quantized(w, WeightLayout::kOutIn, {.format = WeightFormat::int8, .group_size = 32});
  ASSERT_EQ(q.values.shape(), (Shape{2, 20, 16, 2}));
  ASSERT_EQ(q.scales.shape(), (Shape{2, 2, 16}));
  for (std::int64_t k = 0; k < 40; ++k)
    for (std::int64_t n = 0; n < 32; ++n)
      if (k >= 33 || n >= 17) {
        EXPECT_EQ(q.values.data<std::int8_t>()[((n / 16 * 20 + k / 2) * 16 + n % 16) * 2 + k % 2], 0);
      }
  for (std::int64_t g = 0; g < 2; ++g)
    for (std::int64_t n = 17; n < 32; ++n) EXPECT_EQ(q.scales.data<Float16>()[(2 + g) * 16 + n - 16].bits, 0);
}

TEST(Quantize, TakesWiderScalesWhereHalvesDoNotReach) {
  for (const float size : {1e-6f, 1e30f, 1e-40f})
    for (const QuantizationFormat& f : kFormats) {
      Tensor w = random_tensor({20, 64}, 4);
      for (std::int64_t k = 0; k < 64; ++k) w.data<float>()[5 * 64 + k] *= size;
      const Weight q = quantized(w, WeightLayout::kOutIn, f);
      EXPECT_EQ(q.scales.dtype(), DType::f32) << describe(f);
      const Tensor got = dequantize(q, WeightLayout::kOutIn);
      const double norm = error_of(w, Tensor::zeros(w.shape()), 5, 0, 64);
      // Rounding to 15 steps between about -3 and 3 standard deviations errs by 0.4/sqrt(12) of one; numbers below the
      // least normal float32 may all become 0.
      EXPECT_LE(error_of(w, got, 5, 0, 64), (size < 1e-38f ? 1.0 : 0.04) * norm)
          << describe(f) << ' ' << size;
    }
  EXPECT_EQ(quantized(random_tensor({20, 64}, 4), WeightLayout::kOutIn, {}).scales.dtype(), DType::f16);
}

TEST(Quantize, MakesZerosOfZeros) {
  for (const QuantizationFormat& f : kFormats) {
    Tensor w = random_tensor({4, 300}, 4);
    std::fill_n(w.data<float>() + 300, 300, 0.0f);
    const Weight q = quantized(w, WeightLayout::kOutIn, f);
    EXPECT_EQ(q.scales.dtype(), DType::f16);
    const Tensor got = dequantize(q, WeightLayout::kOutIn);
    for (std::int64_t k = 300; k < 600; ++k) ASSERT_EQ(got.data<float>()[k], 0.0f) << describe(f);
  }
  EXPECT_EQ(quantized(Tensor::zeros({0, 5}), WeightLayout::kOutIn, {}).values.numel(), 0);
}

TEST(Quantize, NamesWhatItRefuses) {
  const Tensor w = random_tensor({4, 40}, 1);
  const auto with = [&](const QuantizationFormat& f) {
    return [&, f] { quantized(w, WeightLayout::kOutIn, f); };
  };
  expect_error<ArgumentError>(with({.format = WeightFormat::bf16}), {"format is bfloat16", "int8 or int4"});
  expect_error<ArgumentError>(with({.group_size = 48}), {"group_size is 48"});
  expect_error<ArgumentError>(with({.group_size = -1}), {"group_size is -1"});
  expect_error<ArgumentError>(with({.symmetric = false}), {"int8 is symmetric"});
  const auto weighted = [&](std::vector<float> importance) {
    return [&w, importance] { quantized(w, WeightLayout::kOutIn, {}, importance); };
  };
  expect_error<ShapeError>(weighted(std::vector<float>(39, 1.0f)), {"importance has 39", "K = 40"});
  std::vector<float> bad(40, 1.0f);
  bad[7] = -1.0f;
  expect_error<ArgumentError>(weighted(bad), {"importance[7] is -1"});
  bad[7] = std::numeric_limits<float>::quiet_NaN();
  expect_error<ArgumentError>(weighted(bad), {"importance[7] is nan"});
  Weight wrong = plain_weight(w, WeightLayout::kOutIn);
  wrong.in = 39;
  expect_error<ShapeError>([&] { quantize("h.0.w", wrong, {}); }, {"[h.0.w]", "[4, 40]", "[4, 39]"});
  const Weight again = quantized(w, WeightLayout::kOutIn, {});
  expect_error<UnsupportedError>([&] { quantize("w", again, {}); }, {"[w]", "int8 already"});
}

TEST(Quantize, IsCancelledWhenAskedToStop) {
  const Weight w = plain_weight(random_tensor({40, 50}, 1), WeightLayout::kOutIn);
  std::stop_source stop;
  const std::stop_token token = stop.get_token();
  EXPECT_TRUE(same_bits(quantize("w", w, {}, {}, token).values, quantize("w", w, {}).values));
  stop.request_stop();
  expect_error<CancelledError>([&] { quantize("w", w, {}, {}, token); }, {"[w]"});
}

TEST(Quantize, NamesTheFirstWeightThatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Tensor w = random_tensor({40, 50}, 1);
    w.data<float>()[33 * 50 + 44] = bad;
    expect_error<NumericError>([&] { quantized(w, WeightLayout::kOutIn, {}); }, {"[w] element [33, 44] is"});
    expect_error<NumericError>([&] { quantized(w, WeightLayout::kInOut, {}); }, {"[w] element [33, 44] is"});
  }
}

}  // namespace
}  // namespace gpt::ops
