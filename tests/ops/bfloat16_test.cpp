#include "gpt/ops/bfloat16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/optimizer.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"

namespace gpt::ops {
namespace {

using gpt::test::message_of;
using gpt::test::random_tensor;
using gpt::test::same_bits;

// A float32 tensor in two.
struct Halves {
  Tensor value, rest;

  explicit Halves(const Tensor& x)
      : value(Tensor::empty(x.shape(), DType::bf16)), rest(Tensor::empty(x.shape(), DType::i16)) {
    split(x, value, rest);
  }
  Tensor joined() const {
    Tensor x = Tensor::empty(value.shape());
    join(value, rest, x);
    return x;
  }
};

Tensor of(const std::vector<float>& values) {
  Tensor x = Tensor::empty({static_cast<std::int64_t>(values.size())});
  std::ranges::copy(values, x.data<float>());
  return x;
}

TEST(Bfloat16, RoundsAsTensorsDoAndWidensExactly) {
  for (const std::int64_t n : {1, 15, 16, 9001}) {
    const Tensor x = random_tensor({n}, 1);
    Tensor rounded = Tensor::empty({n}, DType::bf16), wide = Tensor::empty({n});
    convert(x, rounded);
    convert(rounded, wide);
    EXPECT_TRUE(same_bits(rounded, x.to(DType::bf16))) << n;
    EXPECT_TRUE(same_bits(wide, rounded.to(DType::f32))) << n;
  }
}

TEST(Bfloat16, SplitsIntoTheRoundedValueAndWhatItLacks) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Tensor& x :
       {random_tensor({7, 1301}, 1), random_tensor({3}, 2, DType::f32, 1e-40f),
        of({0.0f, -0.0f, infinity, -infinity, 0x1.fffffep127f, 0x1p-149f, 1.0f}),
        // Halfway, away from zero to the even one; and the neighbours of a half that goes down.
        of({0x1.03p0f, -0x1.03p0f, 0x1.00fffep0f, 0x1.010002p0f, -0x1.00fffep0f})}) {
    const Halves halves(x);
    EXPECT_TRUE(same_bits(halves.value, x.to(DType::bf16)));
    EXPECT_TRUE(same_bits(halves.joined(), x));
  }
}

TEST(Bfloat16, LosesOneUnitOfTheLastPlaceHalfwayTowardsZeroAlone) {
  const Tensor x = of({0x1.01p0f, -0x1.01p0f});  // between 1 and 1 + 2^-7: to 1
  const Halves halves(x);
  EXPECT_TRUE(same_bits(halves.value, of({1.0f, -1.0f}).to(DType::bf16)));
  EXPECT_TRUE(same_bits(halves.joined(), of({0x1.00fffep0f, -0x1.00fffep0f})));
  EXPECT_TRUE(same_bits(Halves(halves.joined()).joined(), halves.joined()));
  for (const std::uint32_t bits : {0x7f800001u, 0x7fbfffffu, 0x7fc00000u, 0x7fffffffu, 0xffffffffu}) {
    const Halves nan(of({std::bit_cast<float>(bits)}));
    EXPECT_TRUE(std::isnan(nan.joined().data<float>()[0])) << bits;
    EXPECT_TRUE(std::isnan(static_cast<float>(nan.value.data<BFloat16>()[0]))) << bits;
  }
}

TEST(Bfloat16, LearnsInFloat32) {
  const Tensor gradient = random_tensor({5000}, 2);
  Tensor whole = random_tensor({5000}, 1), m = Tensor::zeros({5000}), v = Tensor::zeros({5000});
  Halves halves(whole);
  Tensor m_of_halves = m.clone(), v_of_halves = v.clone();
  for (std::int64_t step = 1; step <= 50; ++step) {
    const AdamWStep options{.learning_rate = 1e-5, .weight_decay = 0.1, .step = step};
    adamw(whole, gradient, m, v, options);
    adamw(halves.value, gradient, m_of_halves, v_of_halves, options, halves.rest);
    whole = Halves(whole).joined();  // what halfway loses
  }
  EXPECT_TRUE(same_bits(halves.joined(), whole));
  EXPECT_TRUE(same_bits(halves.value, whole.to(DType::bf16)));
  EXPECT_TRUE(same_bits(m, m_of_halves));
  EXPECT_TRUE(same_bits(v, v_of_halves));
  // Steps of which each alone is lost in bfloat16.
  EXPECT_FALSE(same_bits(halves.value, random_tensor({5000}, 1).to(DType::bf16)));
}

TEST(Bfloat16, NamesWhatDoesNotFit) {
  Tensor x = Tensor::zeros({3}), half = Tensor::zeros({3}, DType::bf16),
         rest = Tensor::zeros({3}, DType::i16), other = Tensor::zeros({4}, DType::bf16);
  EXPECT_EQ(message_of<ShapeError>([&] { convert(x, x); }), "[convert] y is float32, expected bfloat16");
  EXPECT_EQ(message_of<ShapeError>([&] { convert(half, half); }),
            "[convert] y is bfloat16, expected float32");
  EXPECT_EQ(message_of<ShapeError>([&] { convert(x, other); }),
            "[convert] y has shape [4], expected the shape of x = [3]");
  EXPECT_EQ(message_of<ShapeError>([&] { split(x, other, rest); }),
            "[split] value has shape [4], expected the shape of the whole = [3]");
  EXPECT_EQ(message_of<ShapeError>([&] { join(half, half, x); }), "[join] rest is bfloat16, expected int16");
  EXPECT_EQ(message_of<ShapeError>([&] { adamw(x, x, x, x, {}, rest); }),
            "[adamw] value is float32, expected bfloat16");
}

}  // namespace
}  // namespace gpt::ops
