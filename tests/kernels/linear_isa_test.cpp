// Law 1 at its root, of matrix products: every instruction set gives the bits of the scalar kernels, and these the bits of the
// definition, over odd sizes and all forms of weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "kernels/isa_test.h"
#include "kernels/linear_data.h"

namespace gpt::kernels {
namespace {

using gpt::test::same_bits;

#ifdef __linux__
bool cpu_has(const std::string& flag) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string word; cpuinfo >> word;)
    if (word == flag) return true;
  return false;
}

TEST(IntegerUnits, AreFoundWhereTheCpuHasThem) {
  if (std::getenv("GPT_FORCE_ISA") != nullptr) GTEST_SKIP() << "GPT_FORCE_ISA names others";
  EXPECT_EQ(kernels_of(IntegerUnits::kVnni) != nullptr, cpu_has("avx512_vnni"));
  const bool amx = use_amx();
  EXPECT_EQ(amx, std::string(integer_kernels().name) == "amx");
  EXPECT_EQ(amx, kernels_of(IntegerUnits::kAmx) != nullptr);
  EXPECT_TRUE(cpu_has("amx_int8") || !amx);
  if (cpu_has("amx_int8") && !amx) GTEST_SKIP() << "Linux does not let this process use AMX";
}
#endif

class LinearIsa : public IsaTest<> {};
INSTANTIATE_TEST_SUITE_P(Isas, LinearIsa, all_isas(), [](const auto& suite) { return suite.param; });

class IntegerProduct : public IsaTest<> {};
INSTANTIATE_TEST_SUITE_P(Isas, IntegerProduct, all_isas(), [](const auto& suite) { return suite.param; });
INSTANTIATE_TEST_SUITE_P(IntegerIsas, IntegerProduct, integer_isas(),
                         [](const auto& suite) { return suite.param; });

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

TEST_P(LinearIsa, GivesTheBitsOfTheScalarKernels) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData expected(c, w, ops::Activation::kGeluNew), got(c, w, ops::Activation::kGeluNew);
      expected.run(scalar());
      got.run(candidate());
      EXPECT_TRUE(same_bits(expected.y, got.y)) << describe(c, w);
    }
}

TEST_P(LinearIsa, InAnyDivisionIntoTasks) {
  for (const LinearCase& c : kLinearCases)
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      LinearData whole(c, w), parts(c, w);
      whole.run(candidate());
      for (std::int64_t task = 0; task < parts.args.tasks(); ++task) parts.run(candidate(), task, task + 1);
      EXPECT_TRUE(same_bits(whole.y, parts.y)) << describe(c, w);
    }
}

// As ops::linear divides products of floats: all rows at once, more panels where rows are long, and sums that wait in y or, where
// the residual is there, in space of their own.
TEST_P(LinearIsa, OfLargeTasksAndLongRows) {
  for (const LinearCase& c : {LinearCase{50, 1040, 80}, LinearCase{7, 2080, 36}, LinearCase{270, 24, 40}})
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2))
      for (const bool in_place : {false, true}) {
        LinearData expected(c, w);
        if (expected.integer()) continue;
        expected.run(scalar());
        for (const std::int64_t panels : {kTaskPanels, 2 * kTaskPanels}) {
          LinearData got(c, w);
          if (in_place) {
            std::copy_n(got.residual.data<float>(), c.m * c.n, got.y.data<float>());
            got.args.residual = got.args.y;
          }
          got.args.block_rows = c.m;
          got.args.task_panels = panels;
          got.run(candidate());
          EXPECT_TRUE(same_bits(expected.y, got.y)) << describe(c, w) << " panels " << panels;
        }
      }
}

TEST_P(LinearIsa, WidensPanels) {
  for (const LinearCase& c : {LinearCase{1, 70, 33}, LinearCase{1, 300, 80}})
    for (const ops::Weight& w : gpt::test::weights_in_all_forms(c.k, c.n, 2)) {
      const Matrix matrix = ops::matrix(w);
      const std::int64_t panels = matrix.panels();
      Tensor expected = Tensor::zeros({panels, c.k, 16}), got = Tensor::zeros({panels, c.k, 16});
      scalar().widen_panels(matrix, expected.data<float>(), 0, panels);
      for (std::int64_t p = 0; p < panels; ++p) candidate().widen_panels(matrix, got.data<float>(), p, p + 1);
      EXPECT_TRUE(same_bits(expected, got)) << describe(c, w);
    }
}

TEST_P(LinearIsa, RowByRow) {
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

/// Of matrix units' tiles, too: numbers of inputs that fill them and rows that do not, and more inputs than they take at once.
constexpr LinearCase kTileCases[] = {{8, 32, 16},    {15, 64, 17},  {16, 96, 40},  {17, 128, 80},
                                     {33, 320, 16},  {47, 256, 33}, {129, 64, 70}, {200, 192, 8},
                                     {20, 1024, 16}, {35, 2112, 20}};

TEST_P(IntegerProduct, InAnyDivisionIntoTasks) {
  for (const auto& cases :
       {std::span<const LinearCase>(kLinearCases), std::span<const LinearCase>(kTileCases)})
    for (const LinearCase& c : cases)
      for (const ops::Weight& w : gpt::test::quantized_weights(c.k, c.n, 2, false)) {
        LinearData expected(c, w, ops::Activation::kGeluNew), whole(c, w, ops::Activation::kGeluNew),
            parts(c, w, ops::Activation::kGeluNew);
        expected.run(scalar());
        whole.run(candidate());
        EXPECT_TRUE(same_bits(expected.y, whole.y)) << describe(c, w);
        for (std::int64_t task = 0; task < parts.args.tasks(); ++task) parts.run(candidate(), task, task + 1);
        EXPECT_TRUE(same_bits(expected.y, parts.y)) << describe(c, w) << " in parts";
      }
}

TEST_P(IntegerProduct, PackedRowsInAnyDivision) {
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4})
    for (const std::int64_t k : {70, 128}) {
      const ops::Weight w = gpt::test::random_quantized(k, 16, {format, 64}, 2);
      const LinearCase c{201, k, 16};
      LinearData whole(c, w), parts(c, w);
      candidate().integer.pack_rows(whole.args, 0, c.m);
      for (std::int64_t m = 0; m < c.m; ++m) candidate().integer.pack_rows(parts.args, m, m + 1);
      EXPECT_TRUE(same_bits(whole.x_quanta, parts.x_quanta) && same_bits(whole.x_scales, parts.x_scales) &&
                  same_bits(whole.x_sums, parts.x_sums));
    }
}

TEST_P(IntegerProduct, OfExtremeActivations) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4})
    for (const std::int64_t k : {40, 64, 128}) {
      const LinearCase c{70, k, 16};
      const ops::Weight w = gpt::test::random_quantized(c.k, c.n, {format, k == 128 ? 64 : 32}, 2);
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

TEST_P(IntegerProduct, Int8AtTheEndsOfItsRange) {
  for (const std::int8_t q : {std::int8_t{-128}, std::int8_t{127}})
    for (const float x : {1.0f, -1.0f})
      for (const std::int64_t m : {1, 3, 20, 70}) {
        const LinearCase c{m, 512, 16};
        ops::Weight w = gpt::test::random_quantized(c.k, c.n, {ops::WeightFormat::int8, 0}, 2);
        std::fill_n(w.values.data<std::int8_t>(), w.values.numel(), q);
        LinearData got(c, w);
        std::fill_n(got.x.data<float>(), got.x.numel(), x);
        got.run(candidate());
        EXPECT_EQ(got.y.data<float>()[0], expected_element(got, {}, 0, 0))
            << int{q} << " " << x << " M " << m;
      }
}

// The largest sums that 16 bits must hold: all weights at an end of their range, and all activations, or every other pair of them.
TEST_P(IntegerProduct, Int4SumsThatJustFit) {
  for (const bool symmetric : {true, false})
    for (const std::uint8_t both : {std::uint8_t{0x00}, std::uint8_t{0xff}})
      for (const std::uint8_t zero : {std::uint8_t{0}, std::uint8_t{15}})
        for (const auto& [first, second] :
             {std::pair{1.0f, 1.0f}, {-1.0f, -1.0f}, {1.0f, 0.0f}, {0.0f, -1.0f}})
          for (const std::int64_t m : {1, 3, 20, 70}) {
            const LinearCase c{m, 128, 16};
            ops::Weight w =
                gpt::test::random_quantized(c.k, c.n, {ops::WeightFormat::int4, 64, symmetric}, 2);
            std::fill_n(w.values.data<std::uint8_t>(), w.values.numel(), both);
            if (!symmetric) std::fill_n(w.zero_points.data<std::uint8_t>(), w.zero_points.numel(), zero);
            LinearData got(c, w);
            for (std::int64_t i = 0; i < got.x.numel(); ++i)
              got.x.data<float>()[i] = i % 4 < 2 ? first : second;
            got.run(candidate());
            EXPECT_EQ(got.y.data<float>()[0], expected_element(got, {}, 0, 0))
                << symmetric << " " << int{both} << " " << int{zero} << " " << first << " " << second << " M "
                << m;
          }
}

// Halves go to the even integer, and 2^-100 is the least largest magnitude of a span that counts.
TEST_P(IntegerProduct, RoundsAsItSays) {
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4})
    for (const std::int64_t m : {1, 20, 70}) {
      const LinearCase c{m, 64, 16};
      LinearData d(c, gpt::test::random_quantized(c.k, c.n, {format, 64}, 2));
      d.args.bias = {};
      d.args.residual = nullptr;
      float* const x = d.x.data<float>();
      const float* const y = d.y.data<float>();
      for (std::int64_t i = 0; i < c.k; ++i) x[i] = static_cast<float>(i % 2 == 0 ? i : -i) + 0.5f;
      x[0] = 127.0f;  // so that the factor is 1
      d.run(candidate());
      EXPECT_EQ(*y, expected_sum(d, {}, 0, 0)) << ops::name_of(format);

      std::fill_n(x, c.k, 0x1p-100f);
      d.run(candidate());
      EXPECT_EQ(*y, expected_sum(d, {}, 0, 0)) << ops::name_of(format);
      EXPECT_NE(*y, 0.0f) << ops::name_of(format);
      std::fill_n(x, c.k, 0x1.fffffep-101f);
      d.run(candidate());
      EXPECT_EQ(*y, 0.0f) << ops::name_of(format);
    }
}

}  // namespace
}  // namespace gpt::kernels
