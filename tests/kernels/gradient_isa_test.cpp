// Law 1 for training: every instruction set gives the scalar kernels' bits for gradients, losses and the optimizer.
#include <gtest/gtest.h>
#include <cstring>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "kernels/isa_test.h"
#include "support/random_tensor.h"

namespace gpt::kernels {
namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

class GradientIsa : public IsaTest<> {
 protected:
  /// run(table) gives the results of an instruction set.
  template <class Run>
  void expect_equal(const Run& run, const std::string& what) const {
    const std::vector<Tensor> expected = run(scalar()), got = run(candidate());
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE(same_bits(expected[i], got[i])) << what << ", result " << i;
  }
};

INSTANTIATE_TEST_SUITE_P(Isas, GradientIsa, all_isas(), [](const auto& suite) { return suite.param; });

TEST_P(GradientIsa, Attention) {
  struct Sizes {
    std::int64_t rows, n_head, head_dim;
  };
  for (const Sizes& c : {Sizes{1, 1, 1}, {7, 2, 5}, {16, 1, 16}, {65, 2, 24}, {130, 1, 64}, {18, 1, 520}}) {
    const std::int64_t rows = c.rows, n_head = c.n_head, head_dim = c.head_dim, d = n_head * head_dim;
    const Tensor qkv = random_tensor({rows, 3 * d}, 1), y = random_tensor({rows, d}, 2),
                 dy = random_tensor({rows, d}, 3);
    // A maximum and a sum that are not those of the scores: probabilities of all sizes, some of them above 1.
    const Tensor statistics = random_tensor({rows, n_head, 2}, 4);
    expect_equal(
        [&](const KernelTable& table) {
          Tensor dqkv = Tensor::zeros(qkv.shape()), deltas = Tensor::zeros({n_head, rows});
          AttentionBackwardArgs a;
          a.query = qkv.data<float>();
          a.key = a.query + d;
          a.value = a.key + d;
          a.dquery = dqkv.data<float>();
          a.dkey = a.dquery + d;
          a.dvalue = a.dkey + d;
          a.stride = 3 * d;
          a.y = y.data<float>();
          a.dy = dy.data<float>();
          a.y_stride = d;
          a.statistics = statistics.data<float>();
          a.deltas = deltas.data<float>();
          a.rows = rows;
          a.n_head = n_head;
          a.head_dim = head_dim;
          a.scale = 0.2f;
          if (rows % 2 == 0) a.dropout = {5, 6, 1u << 30, 4.0f / 3};
          table.attention_backward(a, 0, n_head);
          return std::vector<Tensor>{dqkv, deltas};
        },
        concat(rows, " rows, head_dim ", head_dim));
  }
}

TEST_P(GradientIsa, RowsAndColumns) {
  for (const std::int64_t rows : {1, 3, 16, 37})
    for (const std::int64_t columns : {1, 15, 16, 17, 100}) {
      const Tensor x = random_tensor({rows, columns}, 1);
      expect_equal(
          [&](const KernelTable& table) {
            Tensor turned = Tensor::zeros({columns - 2 > 0 ? columns - 2 : 1, rows + 5}),
                   sums = random_tensor({columns}, 2);
            Tensor more = random_tensor({rows, columns}, 3), wte = random_tensor({4, columns}, 4);
            for (std::int64_t begin = 0; begin < rows; begin += 16)
              table.transpose(x.data<float>(), columns, turned.data<float>(), rows + 5, turned.dim(0), begin,
                              std::min<std::int64_t>(begin + 16, rows));
            table.add_column_sums(x.data<float>(), rows, columns, sums.data<float>(), 0, columns);
            table.add(x.data<float>(), more.data<float>(), 0, rows * columns);
            std::vector<std::int32_t> ids;
            for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r * 7 % 4));
            table.embedding_backward(
                {ids.data(), ids.data(), x.data<float>(), wte.data<float>(), nullptr, rows, columns}, 0,
                columns);
            Tensor squares = Tensor::zeros({1});
            squares.data<float>()[0] =
                static_cast<float>(table.sum_of_squares(x.data<float>(), rows * columns));
            return std::vector<Tensor>{turned, sums, more, wte, squares};
          },
          concat(rows, " rows, ", columns, " columns"));
    }
}

TEST_P(GradientIsa, Dropout) {
  for (const std::int64_t n : {1, 16, 100}) {
    const Tensor x = random_tensor({n}, 1), residual = random_tensor({n}, 2);
    expect_equal(
        [&](const KernelTable& table) {
          Tensor y = Tensor::zeros({n}), alone = Tensor::zeros({n});
          const DropoutKey key{1, std::uint64_t{1} << 40, 1u << 31, 2.0f};
          table.dropout(key, x.data<float>(), residual.data<float>(), y.data<float>(), 0, n);
          table.dropout(key, x.data<float>(), nullptr, alone.data<float>(), 0, n);
          return std::vector<Tensor>{y, alone};
        },
        concat(n, " elements"));
  }
}

TEST_P(GradientIsa, CrossEntropy) {
  for (const std::int64_t columns : {1, 15, 17, 300, 5001}) {
    for (const bool smooth : {false, true}) {
      const std::int64_t label = smooth ? columns - 1 : 0;
      expect_equal(
          [&](const KernelTable& table) {
            Tensor x = random_tensor({columns}, 1, DType::f32, 4.0f), terms = Tensor::zeros({6});
            const CrossEntropyTerms t = table.cross_entropy(
                {x.data<float>(), columns, static_cast<std::int32_t>(label), 0.125f, smooth ? 0.1 : 0.0});
            std::ranges::copy(std::array{t.label_logit, t.max}, terms.data<float>());
            std::memcpy(terms.data<float>() + 2, std::array{t.sum, t.below_max}.data(), 2 * sizeof(double));
            return std::vector<Tensor>{x, terms};
          },
          concat("V ", columns, ", label ", label));
    }
  }
}

TEST_P(GradientIsa, Bfloat16) {
  for (const std::int64_t n : {1, 16, 33, 1000}) {
    Tensor x = random_tensor({n}, 1);
    if (n == 1000) {  // what rounding treats in a way of its own
      const float infinity = std::numeric_limits<float>::infinity();
      std::ranges::copy(std::array{0.0f, -0.0f, infinity, -infinity, std::nanf("1"), 0x1.fffffep127f,
                                   0x1.01p0f, 0x1.03p0f, -0x1.01p0f, 0x1p-149f, 0x1.00fffep0f},
                        x.data<float>());
    }
    expect_equal(
        [&](const KernelTable& table) {
          Tensor rounded = Tensor::zeros({n}, DType::bf16), value = Tensor::zeros({n}, DType::bf16),
                 rest = Tensor::zeros({n}, DType::i16), wide = Tensor::zeros({n}),
                 joined = Tensor::zeros({n});
          const auto bits = [](Tensor& t) { return reinterpret_cast<std::uint16_t*>(t.view().raw()); };
          const SplitFloats halves{bits(value), rest.data<std::int16_t>()};
          table.round(x.data<float>(), bits(rounded), 0, n);
          table.widen(bits(rounded), wide.data<float>(), 0, n);
          table.split(x.data<float>(), halves, 0, n);
          table.join(halves, joined.data<float>(), 0, n);
          return std::vector<Tensor>{rounded, wide, value, rest, joined};
        },
        concat(n, " elements"));
  }
}

TEST_P(GradientIsa, AdamW) {
  for (const std::int64_t n : {1, 16, 33, 1000}) {
    const Tensor gradient = random_tensor({n}, 1);
    expect_equal(
        [&](const KernelTable& table) {
          Tensor p = random_tensor({n}, 2), m = random_tensor({n}, 3), v = random_tensor({n}, 4);
          for (float& x : v.span<float>()) x *= x;
          AdamWArgs a{p.data<float>(), gradient.data<float>(), m.data<float>(), v.data<float>()};
          a.gradient_scale = 0.7f;
          a.keep = 0.999f;
          a.beta1 = 0.9f;
          a.rest1 = 0.1f;
          a.beta2 = 0.95f;
          a.rest2 = 0.05f;
          a.bias2_root = 0.3f;
          a.epsilon = 1e-8f;
          a.step = 1e-3f;
          table.adamw(a, 0, n);
          Tensor value = random_tensor({n}, 5, DType::bf16), rest = Tensor::zeros({n}, DType::i16);
          a.parameter = nullptr;
          a.split = {reinterpret_cast<std::uint16_t*>(value.view().raw()), rest.data<std::int16_t>()};
          table.adamw(a, 0, n);
          Tensor average = random_tensor({n}, 6), of_split = random_tensor({n}, 7);
          table.average(
              {.value = p.data<float>(), .average = average.data<float>(), .keep = 0.9f, .rest = 0.1f}, 0, n);
          table.average({.split = a.split, .average = of_split.data<float>(), .keep = 0.9f, .rest = 0.1f}, 0,
                        n);
          return std::vector<Tensor>{p, m, v, value, rest, average, of_split};
        },
        concat(n, " elements"));
  }
}

}  // namespace
}  // namespace gpt::kernels
