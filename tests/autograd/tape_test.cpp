#include "gpt/autograd/tape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/elementwise.h"
#include "gpt/ops/layer_norm.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt {
namespace {

using gpt::test::random_tensor;
using gpt::test::same_bits;

class TapeTest : public testing::Test {
 protected:
  // y = x W, a square matrix.
  Tensor multiply(const Tensor& x, const ops::Weight& w) {
    Tensor y = Tensor::empty(x.shape());
    autograd::linear(&tape_, x, w, {}, y, arena_);
    return y;
  }
  static ops::Weight square(std::uint64_t seed) {
    return gpt::test::random_weight(8, 8, ops::WeightLayout::kInOut, DType::f32, seed);
  }

  Tape tape_;
  Arena arena_;
};

TEST_F(TapeTest, SumsTheGradientsOfATensorThatIsUsedTwice) {
  const ops::Weight w = square(1);
  const Tensor x = random_tensor({3, 8}, 2), seed = random_tensor({3, 8}, 3);
  Tensor once = Tensor::zeros({8, 8}), twice = Tensor::zeros({8, 8});
  tape_.watch(w.values, once);
  const Tensor y = multiply(x, w);
  tape_.seed(y, seed);
  tape_.backward();
  tape_.watch(w.values, twice);
  const Tensor a = multiply(x, w), b = multiply(x, w);
  tape_.seed(a, seed);
  tape_.seed(b, seed);
  tape_.backward();
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(twice.span<float>()[i], 2 * once.span<float>()[i]);
}

TEST_F(TapeTest, FollowsAResidualOnBothWays) {
  const ops::Weight w = square(1);
  Tensor dx = Tensor::zeros({3, 8});
  const Tensor x = random_tensor({3, 8}, 2), seed = random_tensor({3, 8}, 3);
  tape_.watch(x, dx);
  Tensor h = Tensor::empty(x.shape()), y = Tensor::empty(x.shape());
  Tensor gradient = Tensor::zeros({8, 8});
  tape_.watch(w.values, gradient);
  const Tensor zero = multiply(x, w);
  autograd::linear(&tape_, zero, w, {.residual = zero}, h, arena_);
  autograd::linear(&tape_, h, w, {.residual = h}, y, arena_);
  tape_.seed(y, seed);
  tape_.backward();
  // By hand: each (I + W) turned on the way back.
  Tensor dh = Tensor::empty(x.shape()), dz = Tensor::empty(x.shape());
  Tensor d = seed.clone();
  for (Tensor* next : {&dh, &dz}) {
    ops::linear_backward(x, w, d, {.dx = *next}, arena_);
    for (std::size_t i = 0; i < 24; ++i) next->span<float>()[i] = d.span<float>()[i] + next->span<float>()[i];
    d = next->clone();
  }
  Tensor expected = Tensor::zeros({8, 8});
  ops::linear_backward(h, w, seed, {.dweight = expected}, arena_);
  ops::linear_backward(zero, w, dh, {.dweight = expected}, arena_);
  ops::linear_backward(x, w, dz, {.dweight = expected}, arena_);
  EXPECT_TRUE(same_bits(gradient, expected));
  Tensor expected_dx = Tensor::zeros(x.shape());
  ops::linear_backward(x, w, dz, {.dx = expected_dx}, arena_);
  EXPECT_TRUE(same_bits(dx, expected_dx));
}

TEST_F(TapeTest, RecordsNothingWhereNothingIsWatched) {
  const ops::Weight frozen = square(1), learned = square(2);
  const Tensor x = random_tensor({3, 8}, 2);
  const Tensor y = multiply(x, frozen);
  EXPECT_FALSE(tape_.wants(y));
  Tensor gradient = Tensor::zeros({8, 8});
  tape_.watch(learned.values, gradient);
  const Tensor z = multiply(y, learned);
  EXPECT_TRUE(tape_.wants(z));
  EXPECT_FALSE(tape_.wants(y));
  tape_.seed(z, random_tensor({3, 8}, 3));
  tape_.backward();
  EXPECT_FALSE(tape_.wants(z));  // forgotten
  EXPECT_TRUE(tape_.wants(learned.values));
}

TEST_F(TapeTest, KeepsBfloat16AndComputesInFloat32) {
  const auto half = [](const Tensor& t) { return t.to(DType::bf16); };
  const auto rounded = [&](const Tensor& t) { return half(t).to(DType::f32); };
  const ops::Weight w = gpt::test::random_weight(8, 24, ops::WeightLayout::kInOut, DType::bf16, 1),
                    back = gpt::test::random_weight(24, 8, ops::WeightLayout::kInOut, DType::bf16, 2);
  const Tensor gamma = random_tensor({8}, 3), beta = random_tensor({8}, 4), x = random_tensor({3, 8}, 5),
               seed = random_tensor({3, 8}, 6);
  Tensor gradients[] = {Tensor::zeros({8, 24}), Tensor::zeros({24, 8}), Tensor::zeros({8}),
                        Tensor::zeros({3, 8})};
  tape_.watch(w.values, gradients[0]);
  tape_.watch(back.values, gradients[1]);
  tape_.watch(gamma, gradients[2]);
  tape_.watch(x, gradients[3]);
  Tensor normal = Tensor::empty({3, 8}, DType::bf16), inner = Tensor::empty({3, 24}, DType::bf16),
         y = Tensor::empty({3, 8});
  for (Tape* const tape : {static_cast<Tape*>(nullptr), &tape_}) {
    autograd::layer_norm(tape, x, gamma, beta, 1e-5f, normal, arena_);
    autograd::linear(tape, normal, w, {.activation = ops::Activation::kGeluNew}, inner, arena_);
    autograd::linear(tape, inner, back, {.residual = x}, y, arena_);
    // By hand, with every result rounded.
    Tensor n = Tensor::empty({3, 8}), sum = Tensor::empty({3, 24}), f = Tensor::empty({3, 24}),
           expected = Tensor::empty({3, 8});
    ops::layer_norm(x, gamma, beta, 1e-5f, n);
    EXPECT_TRUE(same_bits(normal, half(n)));
    n = rounded(n);
    ops::linear(n, w, {}, sum, arena_);
    sum = rounded(sum);
    ops::activation(ops::Activation::kGeluNew, sum, f);
    EXPECT_TRUE(same_bits(inner, half(f)));
    f = rounded(f);
    ops::linear(f, back, {.residual = x}, expected, arena_);
    EXPECT_TRUE(same_bits(y, expected));
    if (tape == nullptr) continue;
    tape_.seed(y, seed);
    tape_.backward();
    Tensor df = Tensor::empty({3, 24}), dn = Tensor::empty({3, 8}), dx = seed.clone(),
           dw = Tensor::zeros({8, 24}), dback = Tensor::zeros({24, 8}), dgamma = Tensor::zeros({8});
    ops::linear_backward(f, back, seed, {.dx = df, .dweight = dback}, arena_);
    ops::activation_backward(ops::Activation::kGeluNew, sum, df, df);
    ops::linear_backward(n, w, df, {.dx = dn, .dweight = dw}, arena_);
    ops::layer_norm_backward(x, gamma, 1e-5f, dn, dx, dgamma, {}, arena_);
    EXPECT_TRUE(same_bits(gradients[0], dw));
    EXPECT_TRUE(same_bits(gradients[1], dback));
    EXPECT_TRUE(same_bits(gradients[2], dgamma));
    EXPECT_TRUE(same_bits(gradients[3], dx));
  }
}

// Two blocks of x + gelu(n W) V + n U, where n = layer_norm(x); n and the activation have memory of their own, or pass.
class PassingTest : public TapeTest {
 protected:
  PassingTest() {
    for (std::uint64_t i = 0; i < 2; ++i) {
      w_.push_back(gpt::test::random_weight(8, 24, ops::WeightLayout::kInOut, DType::f32, i + 1));
      v_.push_back(gpt::test::random_weight(24, 8, ops::WeightLayout::kInOut, DType::f32, i + 3));
      u_.push_back(square(i + 10));
    }
  }

  std::vector<Tensor> gradients(DType kept, bool pass) {
    std::vector<Tensor> sums;
    const auto watch = [&](ConstTensorView parameter) {
      sums.push_back(Tensor::zeros(parameter.shape()));
      tape_.watch(parameter, sums.back());
    };
    for (std::size_t i = 0; i < 2; ++i) {
      watch(w_[i].values);
      watch(v_[i].values);
      watch(u_[i].values);
    }
    watch(gamma_);
    watch(x_);
    ConstTensorView x = x_;
    TensorView normal, inner;
    const auto room = [&](TensorView& shared, const Shape& shape) {
      if (!pass) return arena_.take(shape, kept);
      if (shared.raw() == nullptr) shared = arena_.take(shape, kept);
      tape_.pass(shared);
      return shared;
    };
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorView n = room(normal, {3, 8}), a = room(inner, {3, 24}), sum = arena_.take({3, 8}),
                       y = arena_.take({3, 8});
      autograd::layer_norm(&tape_, x, gamma_, beta_, 1e-5f, n, arena_);
      autograd::linear(&tape_, n, w_[i], {.activation = ops::Activation::kGeluNew}, a, arena_);
      autograd::linear(&tape_, a, v_[i], {.residual = x}, sum, arena_);
      autograd::linear(&tape_, n, u_[i], {.residual = sum}, y, arena_);
      x = y;
    }
    tape_.seed(x, random_tensor({3, 8}, 9));
    tape_.backward();
    arena_.reset();
    return sums;
  }

  std::vector<ops::Weight> w_, v_, u_;
  Tensor gamma_ = random_tensor({8}, 5), beta_ = random_tensor({8}, 6), x_ = random_tensor({3, 8}, 7);
};

TEST_F(PassingTest, GivesTheSameGradients) {
  for (const DType kept : {DType::f32, DType::bf16}) {
    const std::vector<Tensor> expected = gradients(kept, false), found = gradients(kept, true);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(same_bits(found[i], expected[i])) << i;
  }
}

TEST_F(PassingTest, RefusesAGradientOfWhatNoOperationComputesAgain) {
  const ops::Weight first = square(1), second = square(2);
  const Tensor x = random_tensor({3, 8}, 3);
  Tensor gradient = Tensor::zeros({8, 8}), y = Tensor::empty({3, 8}), z = Tensor::empty({3, 8});
  tape_.watch(second.values, gradient);
  for (const bool overwritten : {false, true}) {  // what was there before could be computed
    tape_.pass(y);
    if (overwritten) autograd::layer_norm(&tape_, x, gamma_, beta_, 1e-5f, y, arena_);
    autograd::linear(&tape_, x, first, {}, y, arena_);
    autograd::linear(&tape_, y, second, {}, z, arena_);
    tape_.seed(z, random_tensor({3, 8}, 4));
    EXPECT_EQ(
        test::message_of<UnsupportedError>([&] { tape_.backward(); }),
        "[tape] a gradient needs a result [3, 8] that did not last, and that no operation computes again");
  }
}

TEST_F(PassingTest, TellsAResultFromWhatWasInItsPlace) {
  const auto gradient = [&](bool pass) {
    Tensor sum = Tensor::zeros({8}), n = Tensor::empty({3, 8}), y = Tensor::empty({3, 8});
    tape_.watch(gamma_, sum);
    if (pass) tape_.pass(n);
    autograd::layer_norm(&tape_, x_, gamma_, beta_, 1e-5f, n, arena_);
    const TensorView activated = pass ? n.view() : arena_.take({3, 8});
    autograd::activation(&tape_, ops::Activation::kGeluNew, n, activated, arena_);
    autograd::add(&tape_, activated, x_, y, arena_);
    ops::zero(n);
    if (!pass) autograd::layer_norm(nullptr, x_, gamma_, beta_, 1e-5f, n, arena_);
    tape_.seed(y, random_tensor({3, 8}, 9));
    tape_.backward();
    return sum;
  };
  const Tensor expected = gradient(false);
  EXPECT_TRUE(same_bits(gradient(true), expected));
}

TEST_F(PassingTest, RefusesToComputeAgainWhatWasNotTheLast) {
  Tensor y = Tensor::empty({3, 8}), z = Tensor::empty({3, 8});
  tape_.pass(y);
  tape_.record_again(z, [](Arena&) {});  // which does not pass
  EXPECT_EQ(
      test::message_of<UnsupportedError>([&] { tape_.record_again(y, [](Arena&) {}); }),
      "[tape] how a result [3, 8] is computed again is recorded, but it was not the last that was recorded");
}

class LoanTest : public TapeTest {
 protected:
  TensorView part(std::int64_t begin, std::int64_t end) {
    return {lent_.view().data<float>() + begin, {end - begin}};
  }
  // Where so many elements would be, as a number of the first; -1 where they are not lent.
  std::ptrdiff_t first_of(std::int64_t count, TensorView written = {}) {
    const Tape::Loan loan(&tape_, {count}, written);
    return loan.view().raw() == nullptr ? -1 : loan.view().data<float>() - lent_.view().data<float>();
  }

  Tensor lent_ = Tensor::zeros({100});
};

TEST_F(LoanTest, IsGivenBackAsZeros) {
  EXPECT_EQ(Tape::Loan(nullptr, {1}, {}).view().raw(), nullptr);
  EXPECT_EQ(first_of(1), -1);
  tape_.lend(lent_);
  {
    const Tape::Loan loan(&tape_, {10, 5}, {});
    ASSERT_EQ(loan.view().raw(), lent_.view().raw());
    std::ranges::fill(loan.view().span<float>(), 1.0f);
    EXPECT_EQ(first_of(1), -1);  // one at a time
  }
  for (const float element : lent_.span<float>()) EXPECT_EQ(element, 0);
  EXPECT_EQ(first_of(100), 0);
  EXPECT_EQ(first_of(101), -1);
}

TEST_F(LoanTest, IsNothingOfWhatIsWritten) {
  tape_.lend(lent_);
  Tensor elsewhere = Tensor::zeros({100});
  EXPECT_EQ(first_of(100, elsewhere), 0);
  EXPECT_EQ(first_of(60, part(30, 40)), 40);
  EXPECT_EQ(first_of(61), -1);  // from now on
  EXPECT_EQ(first_of(50, part(90, 100)), 40);
  EXPECT_EQ(first_of(51), -1);
  EXPECT_EQ(first_of(1, part(0, 100)), -1);
}

TEST_F(LoanTest, EndsWhenBackwardBegins) {
  const ops::Weight w = square(1);
  Tensor gradient = Tensor::zeros({8, 8});
  tape_.watch(w.values, gradient);
  tape_.lend(lent_);
  const Tensor x = random_tensor({3, 8}, 2), y = multiply(x, w);
  std::ptrdiff_t in_backward = 0;
  Tensor z = Tensor::empty({1});
  tape_.record({w.values}, z, [&](Tape&, TensorView) { in_backward = first_of(1); });
  EXPECT_EQ(first_of(100), 0);
  tape_.seed(y, y);
  tape_.seed(z, z);
  tape_.backward();
  EXPECT_EQ(in_backward, -1);
  EXPECT_EQ(first_of(1), -1);
  tape_.lend(lent_);
  tape_.clear();  // after a pass that threw
  EXPECT_EQ(first_of(1), -1);
}

TEST_F(TapeTest, AddsASeedToTheSameMemory) {
  const ops::Weight w = square(1);
  Tensor gradient = Tensor::zeros({8, 8}), expected = Tensor::zeros({8, 8});
  const Tensor x = random_tensor({3, 8}, 2);
  tape_.watch(w.values, gradient);
  const Tensor y = multiply(x, w);
  const TensorView first = tape_.target(y).view;
  std::ranges::fill(first.span<float>(), 1.0f);
  tape_.seed(y, y);
  EXPECT_EQ(tape_.target(y).view.raw(), first.raw());
  Tensor dy = y.clone();
  for (float& g : dy.span<float>()) g = 1 + g;
  EXPECT_TRUE(same_bits(first, dy));
  tape_.backward();
  ops::linear_backward(x, w, dy, {.dweight = expected}, arena_);
  EXPECT_TRUE(same_bits(gradient, expected));
}

TEST_F(TapeTest, RefusesAttentionThatSkipsRows) {
  const Tensor qkv = random_tensor({5, 24}, 1);
  Tensor y = Tensor::empty({5, 8}), rounded = Tensor::empty({5, 8}, DType::bf16);
  const ops::AttentionSpan span{.rows = 5, .skipped = 2};
  const auto refusal = [&](Tape* tape, TensorView result) {
    return test::message_of<UnsupportedError>([&] {
      autograd::attention(tape, qkv, {&span, 1}, {1, 8, 1.0f}, result, arena_);
    });
  };
  const char* const expected = "[attention] skipped rows on a tape, or of another type than float32";
  EXPECT_EQ(refusal(&tape_, y), expected);
  EXPECT_EQ(refusal(nullptr, rounded), expected);
}

TEST_F(TapeTest, RefusesPartsInsideParts) {
  const ops::Weight w = square(1);
  const Tensor x = random_tensor({3, 8}, 2), seed = random_tensor({3, 8}, 3);
  Tensor gradient = Tensor::zeros({8, 8}), expected = Tensor::zeros({8, 8}), y = Tensor::empty({3, 8});
  tape_.watch(w.values, gradient);
  const auto part = [&](Arena& memory) {
    const TensorView result = memory.take(x.shape());
    autograd::linear(&tape_, x, w, {}, result, memory);
    return result;
  };
  tape_.record_recomputed(y, [&](Arena& memory) {
    tape_.record_recomputed(y, part);
    return part(memory);
  });
  tape_.seed(y, seed);
  EXPECT_EQ(test::message_of<UnsupportedError>([&] { tape_.backward(); }),
            "[tape] a part to be recomputed inside another one, expected parts side by side");
  tape_.clear();
  tape_.record_recomputed(y, part);  // which goes on after clear()
  tape_.seed(y, seed);
  tape_.backward();
  ops::linear_backward(x, w, seed, {.dweight = expected}, arena_);
  EXPECT_TRUE(same_bits(gradient, expected));
}

TEST_F(TapeTest, RefusesAGradientOfAnotherShape) {
  Tensor x = Tensor::zeros({3, 8}), gradient = Tensor::zeros({8, 3});
  EXPECT_EQ(test::message_of<ShapeError>([&] { tape_.watch(x, gradient); }),
            "[tape] a parameter's gradient is float32 [8, 3], expected float32 [3, 8]");
  Tensor half = Tensor::zeros({3}, DType::bf16);
  EXPECT_EQ(test::message_of<ShapeError>([&] { tape_.lend(half); }),
            "[tape] bfloat16 is lent, expected float32");
  EXPECT_EQ(test::message_of<ShapeError>([&] { tape_.seed(x, gradient); }),
            "[tape] a seed is float32 [8, 3], expected float32 [3, 8]");
}

}  // namespace
}  // namespace gpt
