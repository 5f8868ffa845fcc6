// Law 1 for attention: every instruction set puts the scalar kernels' bits into the cache and into the result, for all
// cache types, whichever way the work is divided.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/isa_test.h"
#include "ops/attention_cache.h"
#include "support/random_tensor.h"

namespace gpt::kernels {
namespace {

using gpt::test::AttentionCache;
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

/// One sequence's attention, its cache and its result.
struct Problem {
  Problem(std::int64_t n_head, std::int64_t head_dim, std::int64_t past, std::int64_t rows, DType dtype,
          std::int64_t page_tokens = 0)
      : qkv(random_tensor({past + rows, 3 * n_head * head_dim}, 11)),
        cache(n_head, head_dim, past + rows, dtype, page_tokens),
        y(Tensor::empty({past + rows, n_head * head_dim})) {
    std::memset(y.view().raw(), 0xff, y.nbytes());  // NaN: nobody may read it before it is written
    const std::int64_t d = n_head * head_dim;
    args.stride = 3 * d;
    args.y_stride = d;
    args.n_head = n_head;
    args.head_dim = head_dim;
    args.scale = 0.3f;
    cache.clear();
    args.cache = cache.layer();
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

  Tensor qkv;
  AttentionCache cache;
  Tensor y;
  AttentionArgs args;
};

bool same_cache(const AttentionCache& a, const AttentionCache& b) {
  return std::equal(a.pages().begin(), a.pages().end(), b.pages().begin(), b.pages().end(),
                    [](const Tensor& x, const Tensor& y) { return same_bits(x, y); });
}

bool same(const Problem& a, const Problem& b) { return same_cache(a.cache, b.cache) && same_bits(a.y, b.y); }

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

// A query alone and one among others begin their sums in two ways, which must not show where a number is none.
TEST_P(AttentionIsa, GivesNaNTokenByTokenWhereItDoesAtOnce) {
  constexpr std::int64_t kHeadDim = 64, kRows = 140, kStride = 3 * kHeadDim;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const std::int64_t token : {0, 20, 70, 139})
      for (const std::int64_t part : {0, 1, 2}) {  // in a query, key or value
        Problem whole(1, kHeadDim, 0, kRows, dtype()), tokens(1, kHeadDim, 0, kRows, dtype());
        for (Problem* p : {&whole, &tokens})
          p->qkv.data<float>()[token * kStride + part * kHeadDim + 5] = bad;
        whole.run(candidate(), 0, kRows);
        for (std::int64_t t = 0; t < kRows; ++t) tokens.run(candidate(), t, 1);
        const auto alike = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
        EXPECT_TRUE(std::equal(whole.y.span<float>().begin(), whole.y.span<float>().end(),
                               tokens.y.span<float>().begin(), alike))
            << bad << " at token " << token << " part " << part;
      }
}

TEST_P(AttentionIsa, GivesTheScalarBitsOverPages) {
  for (const std::int64_t page : {16, 48, 64, 96}) {
    Problem expected(2, 40, 0, 211, dtype()), got(2, 40, 0, 211, dtype(), page);
    expected.run(scalar(), 0, 211);
    got.run(candidate(), 0, 67);
    for (std::int64_t t = 67; t < 150; ++t) got.run(candidate(), t, 1);
    got.run(candidate(), 150, 61);
    EXPECT_TRUE(same_bits(expected.y, got.y)) << page;
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
    p.cache = AttentionCache(1, 16, rows, dtype());
    p.cache.clear();
    p.args.cache = p.cache.layer();
    p.go_to(0, rows);
    table.append(p.args, 0, p.args.tasks());
    return p;
  };
  const Problem expected = cache_of(scalar()), got = cache_of(candidate());
  const ops::KvLayer a = expected.cache.layer(), b = got.cache.layer();
  EXPECT_EQ(std::memcmp(a.pages[0], b.pages[0], static_cast<std::size_t>(a.key_scales)), 0);
  for (std::int64_t t = 0; t < rows; ++t)
    for (const int which : {0, 1}) {
      const double x_scale = expected.cache.scale(which, 0, t), y_scale = got.cache.scale(which, 0, t);
      EXPECT_TRUE(x_scale == y_scale || (std::isnan(x_scale) && std::isnan(y_scale))) << t;
    }
  if (dtype() != DType::f16 && dtype() != DType::bf16) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint16_t bits = dtype() == DType::f16 ? Float16(x[i]).bits : BFloat16(x[i]).bits;
    const void* held = a.pages[0] + a.values;
    ASSERT_EQ(static_cast<const std::uint16_t*>(held)[i], bits) << x[i];
  }
}

}  // namespace
}  // namespace gpt::kernels
