// Rows that are replaced or left out, on a tape.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using gpt::test::expect_error;
using gpt::test::random_tensor;
using gpt::test::same_bits;

TEST(ReplaceRows, PutsColumnsInTheirPlacesAndSumsTheirGradients) {
  const Tensor rows = random_tensor({2, 6}, 1), before = random_tensor({7, 5}, 2),
               seed = random_tensor({7, 5}, 3);
  Tensor y = before.clone(), drows = Tensor::zeros({2, 6}), dy = Tensor::zeros({7, 5});
  const std::vector<std::int64_t> places{0, 4};
  Tape tape;
  Arena arena;
  tape.watch(rows, drows);
  tape.watch(before, dy);
  autograd::add(&tape, before, {}, y, arena);
  autograd::replace_rows(&tape, rows, 3, places, 1, 2, y);
  const auto replaced = [](std::int64_t r, std::int64_t c) {
    return (r == 0 || r == 1 || r == 4 || r == 5) && (c == 1 || c == 2);
  };
  for (std::int64_t r = 0; r < 7; ++r)
    for (std::int64_t c = 0; c < 5; ++c)
      EXPECT_EQ(y.data<float>()[r * 5 + c],
                replaced(r, c) ? rows.data<float>()[(r % 4) * 6 + c + 2] : before.data<float>()[r * 5 + c]);
  tape.seed(y, seed);
  tape.backward();
  for (std::int64_t r = 0; r < 7; ++r)
    for (std::int64_t c = 0; c < 5; ++c)
      EXPECT_EQ(dy.data<float>()[r * 5 + c], replaced(r, c) ? 0 : seed.data<float>()[r * 5 + c]);
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t c = 0; c < 6; ++c) {
      float sum = 0;
      if (c == 3 || c == 4) sum = seed.data<float>()[r * 5 + c - 2] + seed.data<float>()[(r + 4) * 5 + c - 2];
      EXPECT_EQ(drows.data<float>()[r * 6 + c], sum) << r << " " << c;
    }
}

TEST(ReplaceRows, RoundsWhereActivationsAreBfloat16) {
  const Tensor rows = random_tensor({1, 4}, 1);
  Tensor y = random_tensor({2, 4}, 2, DType::bf16);
  const std::int64_t places[] = {1};
  autograd::replace_rows(nullptr, rows, 0, places, 0, 4, y);
  EXPECT_TRUE(same_bits(ConstTensorView(y.view().raw() + 8, DType::bf16, {1, 4}), rows.to(DType::bf16)));
  expect_error<ShapeError>([&] { autograd::replace_rows(nullptr, rows, 0, places, 1, 4, y); },
                           {"replace_rows"});
  const std::int64_t behind[] = {2};
  expect_error<ShapeError>([&] { autograd::replace_rows(nullptr, rows, 0, behind, 0, 4, y); },
                           {"replace_rows"});
}

TEST(TakeRows, LeavesTheOthersWithoutAGradient) {
  const Tensor x = random_tensor({6, 3}, 1), seed = random_tensor({4, 3}, 2);
  Tensor y = Tensor::empty({4, 3}), dx = Tensor::zeros({6, 3});
  const std::vector<autograd::RowRange> ranges{{1, 2}, {4, 2}};
  Tape tape;
  tape.watch(x, dx);
  autograd::take_rows(&tape, x, ranges, y);
  tape.seed(y, seed);
  tape.backward();
  const std::int64_t from[] = {1, 2, 4, 5};
  for (std::int64_t r = 0; r < 4; ++r)
    for (std::int64_t c = 0; c < 3; ++c) {
      EXPECT_EQ(y.data<float>()[r * 3 + c], x.data<float>()[from[r] * 3 + c]);
      EXPECT_EQ(dx.data<float>()[from[r] * 3 + c], seed.data<float>()[r * 3 + c]);
    }
  for (const std::int64_t r : {0, 3})
    for (std::int64_t c = 0; c < 3; ++c) EXPECT_EQ(dx.data<float>()[r * 3 + c], 0);
  const std::vector<autograd::RowRange> overlap{{1, 2}, {2, 2}}, outside{{4, 4}};
  expect_error<ShapeError>([&] { autograd::take_rows(nullptr, x, overlap, y); }, {"take_rows", "rise"});
  expect_error<ShapeError>([&] { autograd::take_rows(nullptr, x, outside, y); }, {"take_rows"});
}

}  // namespace
}  // namespace gpt
