// Law 1 at its root: every instruction set gives the bits of the scalar kernels, over odd sizes and all
// element types. Matrix products are in linear_isa_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/isa_test.h"
#include "ops/checks.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::kernels {
namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

Weights weights(const Tensor& t) { return {t.view().raw(), t.dtype()}; }

Matrix matrix(const Tensor& table) {
  return ops::matrix(gpt::test::plain_weight(table, ops::WeightLayout::kOutIn));
}

constexpr DType kWeightTypes[] = {DType::f32, DType::f16, DType::bf16};

class IsaEquality : public IsaTest<> {};
INSTANTIATE_TEST_SUITE_P(Isas, IsaEquality, all_isas(), [](const auto& suite) { return suite.param; });

TEST_P(IsaEquality, LayerNorm) {
  for (const DType dtype : kWeightTypes)
    for (const std::int64_t columns : {1, 5, 16, 17, 100, 768, 4096, 5001}) {
      const Tensor x = random_tensor({3, columns}, 5, DType::f32, 3.0f);
      const Tensor gamma = random_tensor({columns}, 6, dtype), beta = random_tensor({columns}, 7, dtype);
      Tensor expected = Tensor::empty(x.shape()), got = Tensor::empty(x.shape());
      LayerNormArgs args{x.data<float>(), weights(gamma),         weights(beta),
                         1e-5f,           expected.data<float>(), columns};
      scalar().layer_norm(args, 0, 3);
      args.y = got.data<float>();
      candidate().layer_norm(args, 0, 3);
      EXPECT_TRUE(same_bits(expected, got)) << name_of(dtype) << " C " << columns;
    }
}

std::vector<float> interesting_numbers() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x{0.0f,  -0.0f, kInfinity, -kInfinity, 1e-45f, -1e-45f, 1e-38f, 3e38f, -3e38f,
                       88.3f, 88.4f, -87.3f,    -87.4f,     0.625f, 1.0f,    4.0f,   -4.0f};
  for (float v = -100; v < 100; v += 0.037f) x.push_back(v);
  return x;
}

TEST_P(IsaEquality, Activations) {
  const std::vector<float> x = interesting_numbers();
  for (int f = 0; f <= static_cast<int>(ops::Activation::kGeluFast); ++f) {
    std::vector<float> expected(x.size()), got(x.size());
    const auto n = static_cast<std::int64_t>(x.size());
    scalar().activation(static_cast<ops::Activation>(f), x.data(), expected.data(), 0, n);
    candidate().activation(static_cast<ops::Activation>(f), x.data(), got.data(), 0, n);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(expected[i]))  // which NaN is not defined
        EXPECT_TRUE(std::isnan(got[i])) << name_of(static_cast<ops::Activation>(f)) << " of " << x[i];
      else
        EXPECT_EQ(std::bit_cast<std::uint32_t>(expected[i]), std::bit_cast<std::uint32_t>(got[i]))
            << name_of(static_cast<ops::Activation>(f)) << " of " << x[i];
    }
  }
}

TEST_P(IsaEquality, ActivationSlopes) {
  const std::vector<float> x = interesting_numbers(), dy(x.size(), 1.7f);
  for (int f = 0; f <= static_cast<int>(ops::Activation::kGeluFast); ++f) {
    std::vector<float> expected(x.size()), got(x.size());
    const auto n = static_cast<std::int64_t>(x.size());
    scalar().activation_backward(static_cast<ops::Activation>(f), x.data(), dy.data(), expected.data(), 0, n);
    candidate().activation_backward(static_cast<ops::Activation>(f), x.data(), dy.data(), got.data(), 0, n);
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_TRUE(std::isnan(expected[i])
                      ? std::isnan(got[i])
                      : std::bit_cast<std::uint32_t>(expected[i]) == std::bit_cast<std::uint32_t>(got[i]))
          << name_of(static_cast<ops::Activation>(f)) << " of " << x[i];
  }
}

TEST_P(IsaEquality, LayerNormBackward) {
  for (const DType dtype : kWeightTypes)
    for (const std::int64_t columns : {1, 5, 16, 17, 100, 768, 4096, 5001}) {
      const Tensor x = random_tensor({3, columns}, 5, DType::f32, 3.0f), dy = random_tensor({3, columns}, 8);
      const Tensor gamma = random_tensor({columns}, 6, dtype);
      Tensor results[2][4];
      for (const int i : {0, 1}) {
        Tensor* const r = results[i];
        r[0] = random_tensor({3, columns}, 9);
        r[1] = random_tensor({columns}, 10);
        r[2] = random_tensor({columns}, 11);
        r[3] = Tensor::zeros({3, 2});
        const LayerNormBackwardArgs args{
            x.data<float>(),    dy.data<float>(),   weights(gamma),     1e-5f, r[0].data<float>(),
            r[1].data<float>(), r[2].data<float>(), r[3].data<float>(), 3,     columns};
        const KernelTable& table = i == 0 ? scalar() : candidate();
        table.layer_norm_backward(args, 0, 3);
        table.layer_norm_parameters(args, 0, columns);
      }
      for (int i = 0; i < 4; ++i)
        EXPECT_TRUE(same_bits(results[0][i], results[1][i]))
            << name_of(dtype) << " C " << columns << " result " << i;
    }
}

TEST_P(IsaEquality, ActivationsOfNaNAreNaN) {
  const float x = std::numeric_limits<float>::quiet_NaN();
  for (int f = 0; f <= static_cast<int>(ops::Activation::kGeluFast); ++f) {
    float y = 0;
    candidate().activation(static_cast<ops::Activation>(f), &x, &y, 0, 1);
    EXPECT_TRUE(std::isnan(y)) << name_of(static_cast<ops::Activation>(f));
  }
}

TEST_P(IsaEquality, SoftmaxAndItsSum) {
  for (const std::int64_t columns : {1, 15, 16, 17, 300, 4097, 50257}) {
    const Tensor x = random_tensor({2, columns}, 8, DType::f32, 10.0f);
    Tensor expected = Tensor::empty(x.shape()), got = Tensor::empty(x.shape());
    scalar().softmax(x.data<float>(), expected.data<float>(), columns, 0, 2);
    candidate().softmax(x.data<float>(), got.data<float>(), columns, 0, 2);
    EXPECT_TRUE(same_bits(expected, got)) << "C " << columns;
    float max[2], candidate_max[2];
    double sum[2], candidate_sum[2];
    scalar().exp_sum(x.data<float>(), columns, max, sum, 0, 2);
    candidate().exp_sum(x.data<float>(), columns, candidate_max, candidate_sum, 0, 2);
    for (int r = 0; r < 2; ++r) {
      EXPECT_EQ(max[r], candidate_max[r]) << "C " << columns;
      EXPECT_EQ(sum[r], candidate_sum[r]) << "C " << columns;
    }
  }
}

TEST_P(IsaEquality, Embedding) {
  const std::vector<std::int32_t> ids{4, 0, 37}, positions{1, 0, 2};
  for (const std::int64_t columns : {1, 16, 23, 64, 300})
    for (const ops::Weight& wte : gpt::test::weights_in_all_forms(columns, 40, 9)) {
      if (wte.layout == ops::WeightLayout::kInOut) continue;
      const Tensor wpe = random_tensor({3, columns}, 10, DType::bf16);
      Tensor expected = Tensor::empty({3, columns}), got = Tensor::empty({3, columns});
      EmbeddingArgs args{ids.data(), positions.data(), ops::matrix(wte), matrix(wpe), expected.data<float>()};
      scalar().embedding(args, 0, 3);
      args.y = got.data<float>();
      candidate().embedding(args, 0, 3);
      EXPECT_TRUE(same_bits(expected, got)) << gpt::test::describe(wte);
      const Tensor rows = ops::dequantize(wte, ops::WeightLayout::kOutIn);
      for (std::int64_t i = 0; i < columns; ++i)
        EXPECT_EQ(got.data<float>()[2 * columns + i],
                  rows.data<float>()[37 * columns + i] + gpt::test::widened(wpe, 2 * columns + i))
            << gpt::test::describe(wte);
    }
}

}  // namespace
}  // namespace gpt::kernels
