#include "gpt/ops/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::message_of;
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
      linear(x, w, layout, {.bias = bias, .activation = Activation::kRelu, .residual = residual}, y);
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
  linear(x, w, WeightLayout::kInOut, {.residual = residual}, apart);
  linear(x, w, WeightLayout::kInOut, {.residual = in_place}, in_place);
  EXPECT_TRUE(same_bits(apart, in_place));
}

// Large enough that the op gives every thread its share (ops/checks.h, grain_for).
TEST(Linear, DoesNotDependOnTheNumberOfThreads) {
  constexpr std::int64_t kK = 1025, kN = 801;
  for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn})
    for (const std::int64_t rows : {1, 3, 7, 200}) {
      const Tensor x = random_tensor({rows, kK}, 1);
      const Tensor w = random_tensor(layout == WeightLayout::kInOut ? Shape{kK, kN} : Shape{kN, kK}, 2);
      Tensor one = Tensor::empty({rows, kN}), many = Tensor::empty({rows, kN});
      {
        const ThreadLimit limit(1);
        linear(x, w, layout, {}, one);
      }
      for (const int threads : {2, 3}) {
        set_num_threads(threads);
        linear(x, w, layout, {}, many);
        set_num_threads(0);
        EXPECT_TRUE(same_bits(one, many)) << threads << " threads, M " << rows;
      }
    }
}

TEST(Linear, NamesTheOperandThatDoesNotFit) {
  const Tensor x = random_tensor({2, 3}, 1), w = random_tensor({3, 4}, 2), bias = random_tensor({5}, 3);
  Tensor y = Tensor::empty({2, 4}), wrong = Tensor::empty({2, 5});
  const auto run = [&](ConstTensorView weight, const LinearEpilogue& e, TensorView out) {
    return message_of<ShapeError>([&] { linear(x, weight, WeightLayout::kInOut, e, out); });
  };
  EXPECT_EQ(run(w, {}, wrong), "[linear] y has shape [2, 5], expected [M, N] = [2, 4]");
  EXPECT_EQ(run(w, {.bias = bias}, y), "[linear] bias has shape [5], expected [N] = [4]");
  EXPECT_THAT(run(y, {}, y), HasSubstr("weight has shape [2, 4]"));
  EXPECT_THAT(run(w, {.residual = wrong}, y), HasSubstr("residual has shape [2, 5]"));
  EXPECT_THAT(run(Tensor::empty({3, 4}, DType::i32), {}, y), HasSubstr("weight is int32"));
}

}  // namespace
}  // namespace gpt::ops
