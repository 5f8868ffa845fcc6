#include "gpt/ops/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <chrono>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <thread>
#include <utility>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::ops {
namespace {

using gpt::test::message_of;
using gpt::test::plain_weight;
using gpt::test::random_tensor;
using gpt::test::same_bits;
using ::testing::HasSubstr;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::MatrixXd matrix(const Tensor& t) {
  const Tensor f = t.to(DType::f32);
  return Eigen::Map<const RowMajor>(f.data<float>(), f.dim(0), f.dim(1)).cast<double>();
}

constexpr DType kWeightTypes[] = {DType::f32, DType::f16, DType::bf16};

TEST(Linear, AgreesWithAProductInDoublePrecision) {
  constexpr std::int64_t kM = 9, kK = 300, kN = 37;
  for (const DType dtype : kWeightTypes)
    for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
      const Tensor x = random_tensor({kM, kK}, 1);
      const Tensor w =
          random_tensor(layout == WeightLayout::kInOut ? Shape{kK, kN} : Shape{kN, kK}, 2, dtype);
      const Tensor bias = random_tensor({kN}, 3, dtype), residual = random_tensor({kM, kN}, 4);
      Tensor y = Tensor::empty({kM, kN});
      Arena scratch;
      linear(x, plain_weight(w, layout),
             {.bias = bias, .activation = Activation::kRelu, .residual = residual}, y, scratch);
      const Eigen::MatrixXd wd = matrix(w);
      const Eigen::MatrixXd product =
          matrix(x) * (layout == WeightLayout::kInOut ? wd : Eigen::MatrixXd(wd.transpose()));
      const Eigen::MatrixXd sizes =
          matrix(x).cwiseAbs() *
          (layout == WeightLayout::kInOut ? wd.cwiseAbs() : Eigen::MatrixXd(wd.transpose().cwiseAbs()));
      const Tensor b = bias.to(DType::f32);
      for (std::int64_t m = 0; m < kM; ++m)
        for (std::int64_t n = 0; n < kN; ++n) {
          const double sum = product(m, n) + static_cast<double>(b.data<float>()[n]);
          const double expected =
              std::max(sum, 0.0) + static_cast<double>(residual.data<float>()[m * kN + n]);
          // K fused multiply-adds and two additions, each rounding by half a unit of at most sum |x w| + |b|
          // + |r|
          const double bound = (kK + 2) * 0x1p-24 * (sizes(m, n) + 8);
          ASSERT_NEAR(y.data<float>()[m * kN + n], expected, bound);
        }
    }
}

TEST(Linear, MayAddAResidualInPlace) {
  const Tensor x = random_tensor({5, 20}, 1), w = random_tensor({20, 33}, 2);
  const Tensor residual = random_tensor({5, 33}, 3);
  Tensor apart = Tensor::empty({5, 33}), in_place = residual.clone();
  Arena scratch;
  linear(x, plain_weight(w, WeightLayout::kInOut), {.residual = residual}, apart, scratch);
  linear(x, plain_weight(w, WeightLayout::kInOut), {.residual = in_place}, in_place, scratch);
  EXPECT_TRUE(same_bits(apart, in_place));
}

/// Rows of a product of many, with and without a residual in place, beside each row alone.
void expect_rows_alone(std::int64_t m, std::int64_t k, std::int64_t n, WeightLayout layout,
                       std::initializer_list<std::int64_t> rows) {
  const Tensor x = random_tensor({m, k}, 1), bias = random_tensor({n}, 3);
  const Tensor residual = random_tensor({m, n}, 4);
  const Weight w = gpt::test::random_weight(k, n, layout, DType::f32, 2);
  const auto with = [&](ConstTensorView added) {
    return LinearEpilogue{.bias = bias, .activation = Activation::kGeluNew, .residual = added};
  };
  Tensor y = Tensor::empty({m, n}), in_place = residual.clone(), row = Tensor::empty({1, n});
  Arena scratch;
  linear(x, w, with(residual), y, scratch);
  linear(x, w, with(in_place), in_place, scratch);
  EXPECT_TRUE(same_bits(y, in_place)) << n << " outputs";
  for (const std::int64_t r : rows) {
    const auto row_of = [r](const Tensor& t) {
      return ConstTensorView(t.data<float>() + r * t.dim(1), {1, t.dim(1)});
    };
    linear(row_of(x), w, with(row_of(residual)), row, scratch);
    EXPECT_EQ(std::memcmp(row.view().raw(), row_of(y).raw(), row.nbytes()), 0) << n << " outputs, row " << r;
  }
}

// A single row takes another loop, which holds no sums of many rows or panels.
TEST(Linear, GivesTheSameBitsForManyLongRowsAsForEach) {
  for (const std::int64_t n : {320, 328})
    for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
      const ThreadLimit limit(layout == WeightLayout::kInOut ? 1 : 2);
      expect_rows_alone(270, 1100, n, layout, {0, 1, 134, 135, 255, 256, 269});
    }
}

// So many that the matrix is widened for all, and so long that tasks have several groups of panels.
TEST(Linear, GivesTheSameBitsForVeryManyRows) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  expect_rows_alone(600, 1100, 72, WeightLayout::kOutIn, {0, 255, 256, 599});
  const ThreadLimit limit(1);
  expect_rows_alone(2100, 2049, 80, WeightLayout::kInOut, {0, 1023, 1024, 2099});
}

TEST(Linear, WhileAnotherThreadOfTheHostChangesTheNumberOfThreads) {
  const Tensor x = random_tensor({60, 70}, 1);
  const Weight w = gpt::test::random_weight(70, 4000, WeightLayout::kInOut, DType::f32, 2);
  Tensor expected = Tensor::empty({60, 4000}), y = Tensor::empty({60, 4000});
  Arena scratch;
  linear(x, w, {}, expected, scratch);
  std::jthread other([](const std::stop_token& stop) {
    for (int n = 1; !stop.stop_requested(); n = n % 7 + 1) {
      set_num_threads(n);
      std::this_thread::sleep_for(std::chrono::microseconds(50));  // and leaves the CPUs to the products
    }
  });
  for (int i = 0; i < 50; ++i) {
    linear(x, w, {}, y, scratch);
    ASSERT_TRUE(same_bits(expected, y)) << i;
  }
  other.request_stop();
  other.join();
  set_num_threads(0);
}

TEST(Linear, WithoutInputsIsItsBias) {
  constexpr std::int64_t kN = 70;  // more than a group of panels
  for (const std::int64_t rows : {1, 5, 60, 300})
    for (const bool packed : {false, true}) {
      const Tensor bias = random_tensor({kN}, 3), x = Tensor::empty({rows, 0});
      const Weight plain = plain_weight(Tensor::empty({0, kN}), WeightLayout::kInOut);
      Tensor y = random_tensor({rows, kN}, 4);
      Arena scratch;
      linear(x, packed ? pack(plain) : plain, {.bias = bias}, y, scratch);
      for (std::int64_t m = 0; m < rows; ++m)
        ASSERT_EQ(std::memcmp(y.data<float>() + m * kN, bias.data<float>(), kN * sizeof(float)), 0) << rows;
    }
}

// Large enough that the op gives every thread its share (ops/checks.h, grain_for).
TEST(Linear, DoesNotDependOnTheNumberOfThreads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  constexpr std::int64_t kN = 801;
  const auto check = [&](const Weight& w, std::int64_t rows, std::int64_t k) {
    const Tensor x = random_tensor({rows, k}, 1);
    Tensor one = Tensor::empty({rows, kN}), many = Tensor::empty({rows, kN});
    Arena scratch;
    {
      const ThreadLimit limit(1);
      linear(x, w, {}, one, scratch);
    }
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      linear(x, w, {}, many, scratch);
      set_num_threads(0);
      EXPECT_TRUE(same_bits(one, many)) << threads << " threads, M " << rows << " " << gpt::test::describe(w);
    }
  };
  for (const Weight& w : gpt::test::weights_in_all_forms(1025, kN, 2)) check(w, 1, 1025);
  for (const Weight& w : gpt::test::weights_in_all_forms(513, kN, 2)) check(w, 3, 513);
  for (const Weight& w : gpt::test::weights_in_all_forms(300, kN, 2))  // they take longer than the products
    for (const std::int64_t rows : {7, 40}) check(w, rows, 300);
}

TEST(Linear, GivesTheSameBitsFromPanelsAsFromTheFilesLayout) {
  for (const DType dtype : kWeightTypes)
    for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn})
      for (const std::int64_t rows : {1, 5, 6, 7, 30, 100}) {
        const Weight plain = gpt::test::random_weight(300, 70, layout, dtype, 2), packed = pack(plain);
        const Tensor x = random_tensor({rows, 300}, 1);
        Tensor a = Tensor::empty({rows, 70}), b = Tensor::empty({rows, 70});
        Arena scratch;
        linear(x, plain, {}, a, scratch);
        linear(x, packed, {}, b, scratch);
        EXPECT_TRUE(same_bits(a, b)) << name_of(dtype) << " M " << rows;
      }
}

TEST(Linear, WeightOnlyIsTheProductWithTheDequantizedMatrix) {
  const auto check = [](const Weight& w, std::initializer_list<std::int64_t> numbers_of_rows) {
    for (const std::int64_t rows : numbers_of_rows) {
      const Weight plain = plain_weight(dequantize(w, WeightLayout::kOutIn), WeightLayout::kOutIn);
      const Tensor x = random_tensor({rows, w.in}, 1);
      Tensor a = Tensor::empty({rows, 70}), b = Tensor::empty({rows, 70});
      Arena scratch;
      linear(x, w, {}, a, scratch);
      linear(x, plain, {}, b, scratch);
      EXPECT_TRUE(same_bits(a, b)) << gpt::test::describe(w) << " M " << rows;
    }
  };
  for (const Weight& w : gpt::test::weights_in_all_forms(300, 70, 2))
    if (w.weight_only) check(w, {1, 4, 9, 100});
  for (const Weight& w : gpt::test::weights_in_all_forms(1100, 70, 2))  // blocks that begin within a group
    if (w.weight_only) check(w, {50});
}

// Half a step on every term, max|x| / 127 of at most 64 inputs, and the roundings of the sums.
TEST(Linear, RoundsActivationsOfAnIntegerProduct) {
  constexpr std::int64_t kK = 300, kN = 70, kM = 8;
  for (const Weight& w : gpt::test::weights_in_all_forms(kK, kN, 2)) {
    if (!w.quantized() || w.weight_only) continue;
    const Tensor x = random_tensor({kM, kK}, 1), dequantized = dequantize(w, WeightLayout::kInOut);
    Tensor y = Tensor::empty({kM, kN});
    Arena scratch;
    linear(x, w, {}, y, scratch);
    const Eigen::MatrixXd xd = matrix(x), wd = matrix(dequantized), product = xd * wd;
    for (std::int64_t m = 0; m < kM; ++m)
      for (std::int64_t n = 0; n < kN; ++n) {
        const Eigen::VectorXd x_sizes = xd.row(m).cwiseAbs(), w_sizes = wd.col(n).cwiseAbs();
        double rounding = 0;
        constexpr std::int64_t kSpan = 64;
        for (std::int64_t k = 0; k < kK; k += kSpan) {
          const std::int64_t count = std::min(kSpan, kK - k);
          const double step = x_sizes.segment(k, count).maxCoeff() / 127;
          rounding += 0.5 * step * w_sizes.segment(k, count).sum();
        }
        // The integers' scale and factor are rounded (3), a weight's dequantization (1), a span's sum, its scales and their
        // product (3) and the sum over the spans (at most 10), each by half a unit of at most all terms' sizes.
        const double bound = rounding * (1 + 4 * 0x1p-24) + 17 * 0x1p-24 * x_sizes.dot(w_sizes);
        ASSERT_NEAR(y.data<float>()[m * kN + n], product(m, n), bound) << gpt::test::describe(w);
      }
  }
}

// The kernels sum exactly, and split rows as they like, over the group sizes that exist, and over no others.
TEST(Linear, RefusesAWeightOfAFormatThatDoesNotExist) {
  const auto refusal = [](WeightFormat format, std::int64_t group_size, bool symmetric) {
    const Weight w = gpt::test::random_quantized(1024, 16, {format, group_size, symmetric}, 2);
    const Tensor x = random_tensor({8, 1024}, 1);
    Tensor y = Tensor::empty({8, 16});
    Arena scratch;
    return message_of<ArgumentError>([&] { linear(x, w, {}, y, scratch); });
  };
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4})
    for (const std::int64_t group_size : {1, 8, 48, 512, 1024})
      EXPECT_THAT(refusal(format, group_size, true),
                  HasSubstr("group_size is " + std::to_string(group_size)));
  EXPECT_THAT(refusal(WeightFormat::int8, 64, false), HasSubstr("int8 is symmetric"));
  Weight negative = gpt::test::random_quantized(64, 16, {WeightFormat::int8, 64}, 2);
  negative.group_size = -64;
  EXPECT_THAT(message_of<ArgumentError>([&] { negative.check("w"); }), HasSubstr("group_size is -64"));
}

TEST(Weight, UnpacksAndDequantizesIntoAFilesLayoutOnly) {
  const Weight plain = gpt::test::random_weight(20, 40, WeightLayout::kOutIn, DType::f32, 2);
  const Weight quantized = gpt::test::random_quantized(64, 16, {WeightFormat::int8, 64}, 2);
  for (const Weight& w : {plain, pack(plain)})
    EXPECT_THAT(message_of<ArgumentError>([&] { unpack(w, WeightLayout::kPanels); }),
                HasSubstr("[unpack] layout"));
  EXPECT_THAT(message_of<ArgumentError>([&] { dequantize(quantized, WeightLayout::kPanels); }),
              HasSubstr("[dequantize] layout"));
}

TEST(Linear, NamesTheOperandThatDoesNotFit) {
  const Tensor x = random_tensor({2, 3}, 1), bias = random_tensor({5}, 3);
  const Weight w = gpt::test::random_weight(3, 4, WeightLayout::kInOut, DType::f32, 2);
  Tensor y = Tensor::empty({2, 4}), wrong = Tensor::empty({2, 5});
  Arena scratch;
  const auto run = [&](const Weight& weight, const LinearEpilogue& e, TensorView out) {
    return message_of<ShapeError>([&] { linear(x, weight, e, out, scratch); });
  };
  EXPECT_EQ(run(w, {}, wrong), "[linear] y has shape [2, 5], expected [M, N] = [2, 4]");
  EXPECT_EQ(run(w, {.bias = bias}, y), "[linear] bias has shape [5], expected [N] = [4]");
  EXPECT_EQ(run(plain_weight(y, WeightLayout::kInOut), {}, y),
            "[linear] x has shape [2, 3], expected [M, K] = [2, 2]");
  EXPECT_THAT(run(w, {.residual = wrong}, y), HasSubstr("residual has shape [2, 5]"));
  Weight broken = w;
  broken.values = Tensor::empty({3, 4}, DType::i32);
  EXPECT_THAT(run(broken, {}, y), HasSubstr("weight is int32"));
  broken.values = Tensor::empty({4, 3});
  EXPECT_THAT(run(broken, {}, y), HasSubstr("weight has shape [4, 3], expected [3, 4]"));
  Weight quantized = gpt::test::random_quantized(3, 4, {WeightFormat::int4, 32, false}, 2);
  quantized.scales = Tensor::zeros({1, 2, 16});
  EXPECT_THAT(run(quantized, {}, y),
              HasSubstr("scales are float32 [1, 2, 16], expected float32 or float16 [1, 1, 16]"));
}

}  // namespace
}  // namespace gpt::ops
