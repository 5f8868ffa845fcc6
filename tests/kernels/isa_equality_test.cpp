// Law 1 at its root: every instruction set gives the bits of the scalar kernels, over odd sizes and all
// element types.
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

struct LinearCase {
  std::int64_t m, k, n;
};
constexpr LinearCase kLinearCases[] = {
    {1, 1, 1},    {1, 17, 16},   {1, 255, 33},  {1, 520, 80},   {2, 256, 100}, {3, 257, 15}, {4, 3, 1040},
    {5, 600, 17}, {6, 16, 31},   {7, 64, 64},   {11, 33, 48},   {13, 31, 1},   {95, 20, 18}, {97, 300, 19},
    {193, 7, 40}, {17, 300, 40}, {29, 520, 40}, {60, 300, 130}, {3, 0, 17}};

/// A product of random operands; its memory and the arguments of the kernel.
struct LinearData {
  LinearData(const LinearCase& c, ops::Weight w, ops::Activation f = ops::Activation::kNone)
      : x(random_tensor({c.m, c.k}, 1)),
        weight(std::move(w)),
        bias(random_tensor({c.n}, 3, DType::bf16)),
        residual(random_tensor({c.m, c.n}, 4)),
        y(Tensor::zeros({c.m, c.n})) {
    static_cast<Matrix&>(args) = ops::matrix(weight);
    args.x = x.data<float>();
    args.bias = weights(bias);
    args.activation = f;
    args.residual = residual.data<float>();
    args.y = y.data<float>();
    args.m = c.m;
    if (!integer()) return;
    const std::int64_t padded = (c.k + 7) / 8 * 8, spans = args.spans();
    if (weight.format() == ops::WeightFormat::int4) {
      x_quanta = Tensor::zeros({c.m, padded}, DType::i8);
      x_scales = Tensor::zeros({c.m, spans});
      x_sums = Tensor::zeros({c.m, spans, 2}, DType::i16);
      args.packed.x8 = x_quanta.data<std::int8_t>();
      args.packed.minus_sums = x_sums.data<std::int16_t>();
    } else {
      x_quanta = Tensor::zeros({c.m, padded}, DType::i16);
      x_scales = Tensor::zeros({c.m});
      args.packed.x16 = x_quanta.data<std::int16_t>();
    }
    args.packed.scales = x_scales.data<float>();
  }
  bool integer() const { return weight.quantized() && !weight.weight_only; }
  void run(const KernelTable& table, std::int64_t begin, std::int64_t end) {
    if (integer()) table.pack_rows(args, 0, args.m);
    table.linear(args, begin, end);
  }
  void run(const KernelTable& table) { run(table, 0, args.tasks()); }

  Tensor x;
  ops::Weight weight;
  Tensor bias, residual, y, x_quanta, x_scales, x_sums;
  LinearArgs args;
};

/// Of a matrix beside its place in a failure's message.
std::string describe(const LinearCase& c, const ops::Weight& w) {
  return concat("M ", c.m, " ", gpt::test::describe(w));
}

float widened(const Tensor& t, std::int64_t i) { return t.to(DType::f32).data<float>()[i]; }

/// The definition of a row's integers: one scale for each `span` of inputs.
struct RoundedRow {
  RoundedRow(const float* x, std::int64_t count, std::int64_t span, float most) {
    for (std::int64_t begin = 0; begin < count; begin += span) {
      const std::int64_t end = std::min(begin + span, count);
      float largest = 0;
      for (std::int64_t k = begin; k < end; ++k) largest = std::max(largest, std::abs(x[k]));
      scales.push_back(largest / most);
      for (std::int64_t k = begin; k < end; ++k) q.push_back(std::lrint(x[k] * (most / largest)));
    }
  }
  std::vector<std::int64_t> q;
  std::vector<float> scales;
};

/// The definition of the product, term by term.
float expected_sum(const LinearData& d, const Tensor& dequantized, std::int64_t m, std::int64_t n) {
  const ops::Weight& w = d.weight;
  const float* x = d.x.data<float>() + m * w.in;
  float sum = 0;
  if (!d.integer()) {
    for (std::int64_t k = 0; k < w.in; ++k)
      sum = std::fma(x[k], dequantized.data<float>()[k * w.out + n], sum);
    return sum;
  }
  if (w.in == 0) return 0;
  const bool int8 = w.format() == ops::WeightFormat::int8;
  const std::int64_t int4_span = w.group_size == 32 || !w.zero_points.empty() ? 32 : 64;
  const std::int64_t span = !int8 ? int4_span : w.group_size == 0 ? 256 : w.group_size;
  const RoundedRow row(x, w.in, int8 ? w.in : span, int8 ? 32767.0f : 127.0f);
  const std::int64_t groups = ops::groups_of(w.in, w.group_size), panel = n / 16, lane = n % 16;
  const std::int64_t steps = (w.in + 7) / 8;
  for (std::int64_t begin = 0; begin < w.in; begin += span) {
    const std::int64_t group = w.group_size == 0 ? 0 : begin / w.group_size;
    const std::int64_t place = (panel * groups + group) * 16 + lane;
    const int zero = !w.zero_points.empty() ? w.zero_points.data<std::uint8_t>()[place] : int8 ? 0 : 8;
    std::int64_t exact = 0;
    for (std::int64_t k = begin; k < std::min(begin + span, w.in); ++k) {
      const int q = int8 ? w.values.data<std::int8_t>()[((panel * 4 * steps + k / 2) * 16 + lane) * 2 + k % 2]
                         : w.values.data<std::uint8_t>()[((panel * steps + k / 8) * 16 + lane) * 4 + k % 4] >>
                                   (k % 8 < 4 ? 0 : 4) &
                               15;
      exact += row.q[static_cast<std::size_t>(k)] * (q - zero);
    }
    float scale = widened(w.scales, place);
    if (!int8) scale *= row.scales[static_cast<std::size_t>(begin / span)];
    sum = std::fma(static_cast<float>(exact), scale, sum);
  }
  return int8 ? sum * row.scales[0] : sum;
}

float expected_element(const LinearData& d, const Tensor& dequantized, std::int64_t m, std::int64_t n) {
  return d.residual.data<float>()[m * d.weight.out + n] +
         (expected_sum(d, dequantized, m, n) + widened(d.bias, n));
}

TEST(ScalarLinear, IsTheDefinedOrderOfArithmetic) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData d(c, w);
      d.run(scalar());
      const Tensor dequantized = ops::dequantize(w, ops::WeightLayout::kInOut);
      for (std::int64_t m = 0; m < c.m; m += 3)
        for (std::int64_t n = 0; n < c.n; n += 11)
          ASSERT_EQ(d.y.data<float>()[m * c.n + n], expected_element(d, dequantized, m, n))
              << describe(c, w) << " m " << m << " n " << n;
    }
}

TEST_P(IsaEquality, Linear) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData expected(c, w, ops::Activation::kGeluNew), got(c, w, ops::Activation::kGeluNew);
      expected.run(scalar());
      got.run(candidate());
      EXPECT_TRUE(same_bits(expected.y, got.y)) << describe(c, w);
    }
}

TEST_P(IsaEquality, LinearInAnyDivisionIntoTasks) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData whole(c, w), parts(c, w);
      whole.run(candidate());
      for (std::int64_t task = 0; task < parts.args.tasks(); ++task) parts.run(candidate(), task, task + 1);
      EXPECT_TRUE(same_bits(whole.y, parts.y)) << describe(c, w);
    }
}

TEST_P(IsaEquality, LinearRowByRow) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData whole(c, w), row({1, c.k, c.n}, w);
      whole.run(candidate());
      for (std::int64_t m = 0; m < c.m; ++m) {
        std::copy_n(whole.args.x + m * c.k, c.k, row.x.data<float>());
        row.args.residual = whole.args.residual + m * c.n;
        row.run(candidate());
        EXPECT_TRUE(std::equal(row.y.data<float>(), row.y.data<float>() + c.n, whole.args.y + m * c.n))
            << describe(c, w) << " m " << m;
      }
    }
}

TEST_P(IsaEquality, PackedRowsInAnyDivision) {
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4}) {
    const ops::Weight w = gpt::test::random_quantized(70, 16, {format, 64}, 2);
    const LinearCase c{201, 70, 16};
    LinearData whole(c, w), parts(c, w);
    candidate().pack_rows(whole.args, 0, c.m);
    for (std::int64_t m = 0; m < c.m; ++m) candidate().pack_rows(parts.args, m, m + 1);
    EXPECT_TRUE(same_bits(whole.x_quanta, parts.x_quanta) && same_bits(whole.x_scales, parts.x_scales) &&
                same_bits(whole.x_sums, parts.x_sums));
  }
}

TEST_P(IsaEquality, QuantizedRowsOfExtremeActivations) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const LinearCase c{9, 40, 16};
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4}) {
    const ops::Weight w = gpt::test::random_quantized(c.k, c.n, {format, 32}, 2);
    LinearData expected(c, w), got(c, w);
    for (LinearData* d : {&expected, &got}) {
      float* x = d->x.data<float>();
      const float firsts[] = {
          std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, 3e38f, 1e-45f, 1e-38f};
      for (std::int64_t m = 0; m < 6; ++m) {
        std::fill_n(x + m * c.k, c.k, 0.0f);
        x[m * c.k + 39] = firsts[m];
      }
      std::fill_n(x + 6 * c.k, c.k, 0.0f);
    }
    expected.run(scalar());
    got.run(candidate());
    for (std::int64_t i = 0; i < c.m * c.n; ++i) {
      const float e = expected.y.data<float>()[i], g = got.y.data<float>()[i];
      EXPECT_EQ(std::isnan(e), i < 3 * c.n) << ops::name_of(format) << " row " << i / c.n;
      EXPECT_TRUE(std::isnan(e) ? std::isnan(g) : e == g) << ops::name_of(format) << " row " << i / c.n;
    }
  }
}

// The largest sums that 16 bits must hold: all activations alike and all weights at an end of their range.
TEST_P(IsaEquality, Int4SumsThatJustFit) {
  for (const bool symmetric : {true, false})
    for (const std::uint8_t both : {std::uint8_t{0x00}, std::uint8_t{0xff}})
      for (const std::uint8_t zero : {std::uint8_t{0}, std::uint8_t{15}})
        for (const float x : {1.0f, -1.0f})
          for (const std::int64_t m : {1, 3, 20}) {
            const LinearCase c{m, 128, 16};
            ops::Weight w =
                gpt::test::random_quantized(c.k, c.n, {ops::WeightFormat::int4, 64, symmetric}, 2);
            std::fill_n(w.values.data<std::uint8_t>(), w.values.numel(), both);
            if (!symmetric) std::fill_n(w.zero_points.data<std::uint8_t>(), w.zero_points.numel(), zero);
            LinearData got(c, w);
            std::fill_n(got.x.data<float>(), got.x.numel(), x);
            got.run(candidate());
            EXPECT_EQ(got.y.data<float>()[0], expected_element(got, {}, 0, 0))
                << symmetric << " " << int{both} << " " << int{zero} << " " << x << " M " << m;
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
                  rows.data<float>()[37 * columns + i] + widened(wpe, 2 * columns + i))
            << gpt::test::describe(wte);
    }
}

}  // namespace
}  // namespace gpt::kernels
