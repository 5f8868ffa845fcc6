// Law 1 for attention: every instruction set puts the scalar kernels' bits into the cache and into the result, for all
// cache types, whichever way the work is divided.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/isa_test.h"
#include "support/random_tensor.h"

namespace gpt::kernels {
namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

class AttentionIsa : public IsaTest<std::tuple<std::string, DType>> {
 protected:
  DType dtype() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Isas, AttentionIsa,
                         ::testing::Combine(all_isas(), ::testing::Values(DType::f32, DType::f16, DType::bf16,
                                                                          DType::i8)),
                         [](const auto& suite) {
                           return std::get<0>(suite.param) + "_" +
                                  std::string(name_of(std::get<1>(suite.param)));
                         });

/// One sequence's attention, its cache's memory and its result.
struct Problem {
  Problem(std::int64_t n_head, std::int64_t head_dim, std::int64_t past, std::int64_t rows, DType dtype)
      : qkv(random_tensor({past + rows, 3 * n_head * head_dim}, 11)),
        keys(Tensor::zeros({n_head, ops::whole_groups(past + rows), ops::padded_head_dim(head_dim)}, dtype)),
        values(Tensor::zeros(keys.shape(), dtype)),
        scales(Tensor::zeros({2, n_head, keys.dim(1)})),
        y(Tensor::zeros({past + rows, n_head * head_dim})) {
    const std::int64_t d = n_head * head_dim;
    args.stride = 3 * d;
    args.y_stride = d;
    args.n_head = n_head;
    args.head_dim = head_dim;
    args.scale = 0.3f;
    args.cache = {dtype,
                  keys.dim(1),
                  keys.view().raw(),
                  values.view().raw(),
                  scales.data<float>(),
                  scales.data<float>() + n_head * keys.dim(1)};
  }
  void go_to(std::int64_t past, std::int64_t rows) {
    const std::int64_t d = args.n_head * args.head_dim;
    args.query = qkv.data<float>() + past * args.stride;
    args.key = args.query + d;
    args.value = args.key + d;
    args.y = y.data<float>() + past * d;
    args.past = past;
    args.rows = rows;
  }
  void run(const KernelTable& table, std::int64_t past, std::int64_t rows) {
    go_to(past, rows);
    table.append(args, 0, args.tasks());
    table.attention(args, 0, args.tasks());
  }
  /// Single tasks, backwards.
  void run_task_by_task(const KernelTable& table, std::int64_t past, std::int64_t rows) {
    go_to(past, rows);
    for (std::int64_t task = args.tasks(); task-- > 0;) table.append(args, task, task + 1);
    for (std::int64_t task = args.tasks(); task-- > 0;) table.attention(args, task, task + 1);
  }

  Tensor qkv, keys, values, scales, y;
  AttentionArgs args;
};

bool same(const Problem& a, const Problem& b) {
  return same_bits(a.keys, b.keys) && same_bits(a.values, b.values) && same_bits(a.scales, b.scales) &&
         same_bits(a.y, b.y);
}

struct Case {
  std::int64_t n_head, head_dim, past, rows;
};

TEST_P(AttentionIsa, GivesTheScalarBits) {
  constexpr Case kCases[] = {{1, 1, 0, 1},   {2, 8, 0, 20},   {3, 24, 5, 3},   {2, 64, 0, 70},
                             {1, 16, 63, 2}, {2, 33, 64, 1},  {1, 64, 200, 1}, {5, 8, 15, 18},
                             {1, 65, 31, 4}, {1, 128, 40, 9}, {1, 130, 40, 9}, {2, 17, 1, 131}};
  for (const Case& c : kCases) {
    Problem expected(c.n_head, c.head_dim, c.past, c.rows, dtype());
    Problem got(c.n_head, c.head_dim, c.past, c.rows, dtype());
    if (c.past > 0) expected.run(scalar(), 0, c.past);
    expected.run(scalar(), c.past, c.rows);
    if (c.past > 0) got.run(candidate(), 0, c.past);
    got.run_task_by_task(candidate(), c.past, c.rows);
    EXPECT_TRUE(same(expected, got)) << "H " << c.n_head << " d " << c.head_dim << " past " << c.past
                                     << " rows " << c.rows;
  }
}

TEST_P(AttentionIsa, GivesTheSameBitsTokenByToken) {
  for (const std::int64_t head_dim : {5, 64, 144}) {
    Problem whole(2, head_dim, 0, 140, dtype()), tokens(2, head_dim, 0, 140, dtype());
    whole.run(candidate(), 0, 140);
    for (std::int64_t t = 0; t < 140; ++t) tokens.run(candidate(), t, 1);
    EXPECT_TRUE(same(whole, tokens)) << head_dim;
  }
}

// All the roundings there are: both neighbours of every half-way point of the 16-bit types, and the extremes.
std::vector<float> numbers_to_round() {
  std::vector<float> x;
  for (std::uint32_t upper = 0; upper < 0x10000u; ++upper)
    for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(upper << 16 | lower));  // every bfloat16, NaN and infinity included
  for (std::uint32_t half = 0; half < 0x10000u; ++half) {
    Float16 h;
    h.bits = static_cast<std::uint16_t>(half);
    const float value = static_cast<float>(h);
    h.bits = static_cast<std::uint16_t>(half + 1);
    const float middle =
        static_cast<float>((static_cast<double>(value) + static_cast<double>(static_cast<float>(h))) / 2);
    for (const int step : {-1, 0, 1})
      x.push_back(
          std::bit_cast<float>(std::bit_cast<std::uint32_t>(middle) + static_cast<std::uint32_t>(step)));
  }
  x.resize(x.size() / 16 * 16);
  return x;
}

TEST_P(AttentionIsa, RoundsEveryNumberAlike) {
  const std::vector<float> x = numbers_to_round();
  const auto rows = static_cast<std::int64_t>(x.size() / 16);
  const auto cache_of = [&](const KernelTable& table) {
    Problem p(1, 16, 0, 1, dtype());
    p.qkv = Tensor::zeros({rows, 48});
    for (std::int64_t r = 0; r < rows; ++r)
      for (const int part : {1, 2})
        std::copy_n(x.data() + r * 16, 16, p.qkv.data<float>() + r * 48 + part * 16);
    p.keys = Tensor::zeros({1, ops::whole_groups(rows), 16}, dtype());
    p.values = Tensor::zeros(p.keys.shape(), dtype());
    p.scales = Tensor::zeros({2, 1, p.keys.dim(1)});
    p.args.cache = {dtype(),
                    p.keys.dim(1),
                    p.keys.view().raw(),
                    p.values.view().raw(),
                    p.scales.data<float>(),
                    p.scales.data<float>() + p.keys.dim(1)};
    p.go_to(0, rows);
    table.append(p.args, 0, p.args.tasks());
    return p;
  };
  const Problem expected = cache_of(scalar()), got = cache_of(candidate());
  EXPECT_TRUE(same_bits(expected.keys, got.keys));
  EXPECT_TRUE(same_bits(expected.values, got.values));
  for (std::int64_t i = 0; i < expected.scales.numel(); ++i) {
    const float a = expected.scales.data<float>()[i], b = got.scales.data<float>()[i];
    EXPECT_TRUE(std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (a != a && b != b))
        << i;
  }
  if (dtype() != DType::f16 && dtype() != DType::bf16) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint16_t bits = dtype() == DType::f16 ? Float16(x[i]).bits : BFloat16(x[i]).bits;
    const void* held = expected.values.view().raw();
    ASSERT_EQ(static_cast<const std::uint16_t*>(held)[i], bits) << x[i];
  }
}

}  // namespace
}  // namespace gpt::kernels
