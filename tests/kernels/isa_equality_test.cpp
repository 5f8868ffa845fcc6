// Law 1 at its root: every instruction set gives the bits of the scalar kernels, over odd sizes and all
// element types.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "support/random_tensor.h"

namespace gpt::kernels {

extern const KernelTable kEmulatedAvx512Table;

namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

const KernelTable& scalar() { return *table_of(Isa::kScalar); }

Weights weights(const Tensor& t) { return {t.view().raw(), t.dtype()}; }

constexpr DType kWeightTypes[] = {DType::f32, DType::f16, DType::bf16};

struct Candidate {
  const char* name;
  const KernelTable* table;  // null: not available here
};
void PrintTo(const Candidate& c, std::ostream* out) { *out << c.name; }

class IsaEquality : public ::testing::TestWithParam<Candidate> {
 protected:
  void SetUp() override {
    if (GetParam().table == nullptr) GTEST_SKIP() << "this CPU has no " << GetParam().name;
  }
  const KernelTable& candidate() const { return *GetParam().table; }
};

INSTANTIATE_TEST_SUITE_P(Isas, IsaEquality,
                         ::testing::Values(Candidate{"avx2", table_of(Isa::kAvx2)},
                                           Candidate{"avx512", table_of(Isa::kAvx512)},
                                           Candidate{"emulated_avx512", &kEmulatedAvx512Table}),
                         [](const auto& suite) { return std::string(suite.param.name); });

struct LinearCase {
  std::int64_t m, k, n;
};
constexpr LinearCase kLinearCases[] = {{1, 1, 1},    {1, 17, 16},  {1, 255, 33},  {2, 256, 100}, {3, 257, 15},
                                       {4, 3, 1040}, {5, 600, 17}, {6, 16, 31},   {7, 64, 64},   {11, 33, 48},
                                       {13, 31, 1},  {95, 20, 18}, {97, 300, 19}, {193, 7, 40}};

struct LinearData {
  Tensor x, weight, bias, residual, y;
  LinearArgs args;
};

LinearData make_linear(const LinearCase& c, DType dtype, ops::WeightLayout layout, ops::Activation f) {
  LinearData d;
  d.x = random_tensor({c.m, c.k}, 1);
  d.weight = random_tensor(layout == ops::WeightLayout::kInOut ? Shape{c.k, c.n} : Shape{c.n, c.k}, 2, dtype);
  d.bias = random_tensor({c.n}, 3, dtype);
  d.residual = random_tensor({c.m, c.n}, 4);
  d.y = Tensor::zeros({c.m, c.n});
  d.args.x = d.x.data<float>();
  d.args.weight = weights(d.weight);
  d.args.layout = layout;
  d.args.bias = weights(d.bias);
  d.args.activation = f;
  d.args.residual = d.residual.data<float>();
  d.args.y = d.y.data<float>();
  d.args.m = c.m;
  d.args.k = c.k;
  d.args.n = c.n;
  return d;
}

float widened(const Tensor& t, std::int64_t i) { return t.to(DType::f32).data<float>()[i]; }

TEST(ScalarLinear, IsOneChainOfFusedMultiplyAddsOverK) {
  for (const auto layout : {ops::WeightLayout::kInOut, ops::WeightLayout::kOutIn}) {
    for (const LinearCase& c : kLinearCases) {
      const LinearData d = make_linear(c, DType::bf16, layout, ops::Activation::kNone);
      scalar().linear(d.args, 0, d.args.tasks());
      const Tensor w = d.weight.to(DType::f32);
      for (std::int64_t m = 0; m < c.m; m += 3)
        for (std::int64_t n = 0; n < c.n; n += 5) {
          float sum = 0;
          for (std::int64_t k = 0; k < c.k; ++k) {
            const std::int64_t at = layout == ops::WeightLayout::kInOut ? k * c.n + n : n * c.k + k;
            sum = std::fma(d.x.data<float>()[m * c.k + k], w.data<float>()[at], sum);
          }
          const float expected = d.residual.data<float>()[m * c.n + n] + (sum + widened(d.bias, n));
          ASSERT_EQ(d.y.data<float>()[m * c.n + n], expected) << "m " << m << " n " << n;
        }
    }
  }
}

TEST_P(IsaEquality, Linear) {
  for (const DType dtype : kWeightTypes)
    for (const auto layout : {ops::WeightLayout::kInOut, ops::WeightLayout::kOutIn})
      for (const LinearCase& c : kLinearCases) {
        const LinearData expected = make_linear(c, dtype, layout, ops::Activation::kGeluNew);
        const LinearData got = make_linear(c, dtype, layout, ops::Activation::kGeluNew);
        scalar().linear(expected.args, 0, expected.args.tasks());
        candidate().linear(got.args, 0, got.args.tasks());
        EXPECT_TRUE(same_bits(expected.y, got.y))
            << name_of(dtype) << " M " << c.m << " K " << c.k << " N " << c.n;
      }
}

TEST_P(IsaEquality, LinearInAnyDivisionIntoTasks) {
  for (const auto layout : {ops::WeightLayout::kInOut, ops::WeightLayout::kOutIn})
    for (const LinearCase& c : kLinearCases) {
      const LinearData whole = make_linear(c, DType::f32, layout, ops::Activation::kNone);
      const LinearData parts = make_linear(c, DType::f32, layout, ops::Activation::kNone);
      candidate().linear(whole.args, 0, whole.args.tasks());
      for (std::int64_t task = 0; task < parts.args.tasks(); ++task)
        candidate().linear(parts.args, task, task + 1);
      EXPECT_TRUE(same_bits(whole.y, parts.y)) << "M " << c.m << " K " << c.k << " N " << c.n;
    }
}

TEST_P(IsaEquality, LinearRowByRow) {
  for (const auto layout : {ops::WeightLayout::kInOut, ops::WeightLayout::kOutIn})
    for (const LinearCase& c : kLinearCases) {
      const LinearData whole = make_linear(c, DType::f16, layout, ops::Activation::kNone);
      const LinearData rows = make_linear(c, DType::f16, layout, ops::Activation::kNone);
      candidate().linear(whole.args, 0, whole.args.tasks());
      for (std::int64_t m = 0; m < c.m; ++m) {
        LinearArgs row = rows.args;
        row.x += m * c.k;
        row.residual += m * c.n;
        row.y += m * c.n;
        row.m = 1;
        candidate().linear(row, 0, row.tasks());
      }
      EXPECT_TRUE(same_bits(whole.y, rows.y)) << "M " << c.m << " K " << c.k << " N " << c.n;
    }
}

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
  const std::vector<std::int32_t> ids{4, 0, 2}, positions{1, 0, 2};
  for (const DType dtype : kWeightTypes)
    for (const std::int64_t columns : {1, 16, 23, 64}) {
      const Tensor wte = random_tensor({5, columns}, 9, dtype), wpe = random_tensor({3, columns}, 10, dtype);
      Tensor expected = Tensor::empty({3, columns}), got = Tensor::empty({3, columns});
      EmbeddingArgs args{ids.data(),   positions.data(),       weights(wte),
                         weights(wpe), expected.data<float>(), columns};
      scalar().embedding(args, 0, 3);
      args.y = got.data<float>();
      candidate().embedding(args, 0, 3);
      EXPECT_TRUE(same_bits(expected, got)) << name_of(dtype) << " D " << columns;
    }
}

}  // namespace
}  // namespace gpt::kernels
