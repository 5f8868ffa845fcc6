// What is done to the columns of a matrix, the same in all rows.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/elementwise.h"
#include "ops/slopes.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::expect_error;
using gpt::test::random_tensor;
using gpt::test::same_bits;

constexpr std::int64_t kRowCount = 7, kColumns = 37;

TEST(Columns, AreAddedToAndScaledEachRowAlike) {
  const Tensor x = random_tensor({kRowCount, kColumns}, 1), v = random_tensor({kColumns}, 2),
               center = random_tensor({kColumns}, 3);
  Tensor sum = Tensor::empty(x.shape()), scaled = Tensor::empty(x.shape()),
         centered = Tensor::empty(x.shape());
  add_columns(x, v, sum);
  scale_columns(x, v, {}, scaled);
  scale_columns(x, v, center, centered);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const float at = x.data<float>()[i], by = v.data<float>()[i % kColumns],
                c = center.data<float>()[i % kColumns];
    EXPECT_EQ(sum.data<float>()[i], at + by);
    EXPECT_EQ(scaled.data<float>()[i], by * at);
    EXPECT_EQ(centered.data<float>()[i], c + by * (at - c));
  }
  Tensor in_place = x.clone();
  scale_columns(in_place, v, center, in_place);
  EXPECT_TRUE(same_bits(in_place, centered));
  in_place = x.clone();
  add_columns(in_place, v, in_place);
  EXPECT_TRUE(same_bits(in_place, sum));
}

TEST(Columns, GiveTheirFactorsAGradientThatIsTheSlope) {
  const Tensor x = random_tensor({kRowCount, kColumns}, 1), v = random_tensor({kColumns}, 2),
               center = random_tensor({kColumns}, 3), dy = random_tensor({kRowCount, kColumns}, 4);
  for (const bool centered : {false, true}) {
    const ConstTensorView middle = centered ? ConstTensorView(center) : ConstTensorView();
    Tensor dv = Tensor::zeros({kColumns});
    scale_columns_backward(x, middle, dy, dv);
    const auto loss = [&](const std::vector<double>& factors) {
      double sum = 0;
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        const double c = centered ? static_cast<double>(center.data<float>()[i % kColumns]) : 0;
        sum += static_cast<double>(dy.data<float>()[i]) *
               (c + factors[static_cast<std::size_t>(i % kColumns)] *
                        (static_cast<double>(x.data<float>()[i]) - c));
      }
      return sum;
    };
    gpt::test::expect_slopes(v, dv, loss, 4 * kRowCount);
    Tensor twice = dv.clone();
    scale_columns_backward(x, middle, dy, twice);
    for (std::int64_t c = 0; c < kColumns; ++c) EXPECT_EQ(twice.data<float>()[c], 2 * dv.data<float>()[c]);
  }
  Tensor sums = Tensor::zeros({kColumns});
  add_column_sums(dy, sums);
  for (std::int64_t c = 0; c < kColumns; ++c) {
    float chain = 0;
    for (std::int64_t r = 0; r < kRowCount; ++r) chain += dy.data<float>()[r * kColumns + c];
    EXPECT_EQ(sums.data<float>()[c], chain);
  }
}

TEST(Columns, DoNotDependOnTheNumberOfThreads) {
  const Tensor x = random_tensor({1000, 333}, 1), v = random_tensor({333}, 2),
               dy = random_tensor({1000, 333}, 3);
  const auto all = [&] {
    std::vector<Tensor> results;
    for (int i = 0; i < 2; ++i) results.push_back(Tensor::empty(x.shape()));
    for (int i = 0; i < 2; ++i) results.push_back(Tensor::zeros({333}));
    add_columns(x, v, results[0]);
    scale_columns(x, v, v, results[1]);
    scale_columns_backward(x, v, dy, results[2]);
    add_column_sums(dy, results[3]);
    return results;
  };
  set_num_threads(1);
  const auto one = all();
  set_num_threads(3);
  const auto three = all();
  set_num_threads(0);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], three[i])) << i;
}

TEST(Columns, NameTheOperandThatDoesNotFit) {
  const Tensor x = random_tensor({2, 3}, 1), v = random_tensor({3}, 2), other = random_tensor({4}, 3);
  Tensor y = Tensor::empty({2, 3}), wrong = Tensor::empty({3, 3}), vector = Tensor::zeros({3});
  expect_error<ShapeError>([&] { add_columns(x, other, y); }, {"add_columns", "v", "[4]", "C = 3"});
  expect_error<ShapeError>([&] { add_columns(x, v, wrong); }, {"add_columns", "x", "[2, 3]"});
  expect_error<ShapeError>([&] { scale_columns(x, v, other, y); }, {"scale_columns", "center"});
  expect_error<ShapeError>([&] { scale_columns(x, v.to(DType::bf16), {}, y); }, {"v is bfloat16"});
  expect_error<ShapeError>([&] { scale_columns_backward(wrong, {}, x, vector); }, {"x", "[3, 3]"});
  expect_error<ShapeError>([&] { add_column_sums(v, vector); }, {"add_column_sums", "[R, C]"});
}

}  // namespace
}  // namespace gpt::ops
