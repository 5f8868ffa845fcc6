// Losses of rows: the library's against double precision, and a user's own.
#include "gpt/ops/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "ops/slopes.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using test::doubles;
using test::expect_slopes;
using test::message_of;
using test::random_tensor;
using test::same_bits;
using ::testing::ElementsAreArray;

std::vector<std::int64_t> all_rows(std::int64_t n) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// -log p of all tokens, for row r of x [*, v].
std::vector<double> surprises(const std::vector<double>& x, std::int64_t v, std::int64_t r) {
  std::vector<double> row(x.begin() + r * v, x.begin() + (r + 1) * v);
  double sum = 0;
  for (const double logit : row) sum += std::exp(logit);
  for (double& logit : row) logit = std::log(sum) - logit;
  return row;
}

// It chooses the kernels, which may fail: where it could not throw, that would end the process.
static_assert(!noexcept(CrossEntropy()(LossRow{})));

TEST(CrossEntropy, GivesLossesAndTheirSlopes) {
  for (const std::int64_t v : {2, 50, 5000})
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      const Tensor logits = random_tensor({3, v}, 1, DType::f32, 3.0f);
      const std::vector<TokenId> labels{0, static_cast<TokenId>(v - 1), static_cast<TokenId>(v / 2)};
      Tensor gradient = logits.clone();
      std::vector<double> losses(3);
      row_losses(CrossEntropy(smoothing), gradient, all_rows(3), labels, 0.25f, losses);
      const auto loss_of = [&](const std::vector<double>& x, std::int64_t r) {
        const std::vector<double> all = surprises(x, v, r);
        return (1 - smoothing) * all[static_cast<std::size_t>(labels[static_cast<std::size_t>(r)])] +
               smoothing * std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(v);
      };
      const std::vector<double> x = doubles(logits);
      // exp is exact to 2 ulp, and a sum loses a rounding for every 16 terms; those that smoothing adds up are below 32.
      for (std::int64_t r = 0; r < 3; ++r)
        EXPECT_NEAR(losses[static_cast<std::size_t>(r)], loss_of(x, r),
                    (static_cast<double>(v) / 16 + 8) * 0x1p-24 * (1 + 32 * smoothing));
      expect_slopes(
          logits, gradient,
          [&](const auto& at) { return 0.25 * (loss_of(at, 0) + loss_of(at, 1) + loss_of(at, 2)); },
          static_cast<double>(v) / 16 + 16);
    }
}

TEST(CrossEntropy, TakesTheShareOfSmoothingFromTheLabelAlone) {
  // All logits alike: p = 1 / 4 everywhere, and so is what smoothing asks for.
  const std::vector<TokenId> labels{2};
  Tensor logits = Tensor::zeros({1, 4});
  std::vector<double> losses(1);
  row_losses(CrossEntropy(0.5), logits, all_rows(1), labels, 1.0f, losses);
  EXPECT_THAT(logits.span<float>(), ElementsAreArray({0.125f, 0.125f, -0.375f, 0.125f}));
  EXPECT_DOUBLE_EQ(losses[0], std::log(4.0));
}

TEST(CrossEntropy, RefusesAFactorOutsideItsRange) {
  for (const double factor : {-0.1, 1.5, std::nan("")})
    EXPECT_EQ(message_of<ArgumentError>([&] { CrossEntropy{factor}; }),
              concat("[cross_entropy] label_smoothing_factor is ", factor, ", expected 0 to 1"));
}

// A student's cross-entropy with what a teacher says of the same row, whatever its label: -sum q_c log p_c.
class Distillation {
 public:
  explicit Distillation(const Tensor& teacher) : teacher_(teacher) {}

  double operator()(const LossRow& row) const {
    const auto v = static_cast<std::int64_t>(row.logits.size());
    const std::vector<double> q = surprises(doubles(teacher_), v, row.index);
    const std::vector<double> p = surprises({row.logits.begin(), row.logits.end()}, v, 0);
    double loss = 0;
    for (std::size_t c = 0; c < q.size(); ++c) {
      loss += std::exp(-q[c]) * p[c];
      row.logits[c] =
          static_cast<float>(static_cast<double>(row.scale) * (std::exp(-p[c]) - std::exp(-q[c])));
    }
    return loss;
  }

 private:
  Tensor teacher_;
};

TEST(RowLosses, TakeALossThatKnowsMoreOfARow) {
  const Tensor teacher = random_tensor({6, 20}, 1), student = random_tensor({3, 20}, 2);
  const std::vector<std::int64_t> rows{1, 4, 5};
  const std::vector<TokenId> labels(6, 0);
  Tensor gradient = student.clone();
  std::vector<double> losses(6, -1.0);
  row_losses(Distillation(teacher), gradient, rows, labels, 0.5f, losses);
  const std::vector<double> q = doubles(teacher);
  const auto total = [&](const std::vector<double>& at) {
    double sum = 0;
    for (std::int64_t i = 0; i < 3; ++i) {
      const auto p = surprises(at, 20, i), teachers = surprises(q, 20, rows[static_cast<std::size_t>(i)]);
      for (std::size_t c = 0; c < 20; ++c) sum += 0.5 * std::exp(-teachers[c]) * p[c];
    }
    return sum;
  };
  expect_slopes(student, gradient, total, 2);
  EXPECT_DOUBLE_EQ(0.5 * (losses[1] + losses[4] + losses[5]), total(doubles(student)));
  EXPECT_THAT((std::vector{losses[0], losses[2], losses[3]}), ElementsAreArray({-1.0, -1.0, -1.0}));
}

TEST(RowLosses, LetOutWhatTheLossThrowsOfTheFirstRow) {
  Tensor logits = random_tensor({900, 500}, 1);
  const std::vector<TokenId> labels(900, 3);
  std::vector<double> losses(900);
  const RowLoss loss = [](const LossRow& row) -> double {
    if (row.index % 100 == 99) throw std::runtime_error(concat("row ", row.index));
    return 0;
  };
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    EXPECT_EQ(
        message_of<std::runtime_error>([&] { row_losses(loss, logits, all_rows(900), labels, 1, losses); }),
        "row 99");
  }
  set_num_threads(0);
}

TEST(RowLosses, RefuseWhatDoesNotFit) {
  Tensor logits = random_tensor({1, 5}, 1);
  std::vector<double> losses(1), two(2);
  const auto refused = [&](TokenId label, std::int64_t row, const RowLoss& loss = CrossEntropy()) {
    return message_of<ArgumentError>(
        [&] { row_losses(loss, logits, std::vector{row}, std::vector{label}, 1, losses); });
  };
  for (const TokenId label : {-100, 5})
    EXPECT_EQ(refused(label, 0), concat("[row_losses] label ", label, " at row 0 is outside [0, 5)"));
  Tensor two_rows = Tensor::zeros({2, 5});
  std::vector<double> two_losses(2);
  EXPECT_EQ(message_of<ArgumentError>([&] {
              row_losses(CrossEntropy(), two_rows, std::vector<std::int64_t>{1, 1},
                         std::vector<TokenId>{0, 0}, 1, two_losses);
            }),
            "[row_losses] row 1 comes after row 1, expected ascending rows");
  EXPECT_EQ(refused(0, 1), "[row_losses] row 1 is outside [0, 1)");
  EXPECT_EQ(refused(0, 0, {}), "[row_losses] there is no loss");
  EXPECT_EQ(message_of<ShapeError>(
                [&] { row_losses(CrossEntropy(), logits, all_rows(1), std::vector<TokenId>{0}, 1, two); }),
            "[row_losses] 1 rows of 1 labels and 2 losses, expected R = 1 rows, and a loss for each label");
}

}  // namespace
}  // namespace gpt::ops
